// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// pki is a certificate authority that signs for the API server and its clients,
// with its files in one folder.
type pki struct {
	dir string
	crt *x509.Certificate
	key crypto.Signer
}

// tlsFiles are the files of a certificate and its key.
type tlsFiles struct{ Cert, Key string }

// newPKI writes the authority, the certificate of the API server and the key of
// the ServiceAccounts.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	var err error
	if p.key, err = p.newKey("ca"); err != nil {
		return nil, err
	}
	if p.crt, err = cert.NewSelfSignedCACert(cert.Config{CommonName: "controlplane"}, p.key); err != nil {
		return nil, fmt.Errorf("making the certificate authority of the control plane: %w", err)
	}
	if err := p.writeCert("ca", p.crt); err != nil {
		return nil, err
	}
	if _, err := p.newKey("sa"); err != nil {
		return nil, err
	}
	_, err = p.sign("apiserver", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
	})
	return p, err
}

// client writes the certificate of a user, whose groups are the organisations
// of its subject.
func (p *pki) client(file, user string, groups ...string) (tlsFiles, error) {
	return p.sign(file, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (p *pki) sign(name string, template *x509.Certificate) (tlsFiles, error) {
	files := tlsFiles{Cert: filepath.Join(p.dir, name+".crt"), Key: filepath.Join(p.dir, name+".key")}
	key, err := p.newKey(name)
	if err != nil {
		return files, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return files, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, p.crt, key.Public(), p.key)
	if err != nil {
		return files, fmt.Errorf("signing the certificate of %s: %w", template.Subject.CommonName, err)
	}
	crt, err := x509.ParseCertificate(der)
	if err != nil {
		return files, err
	}
	return files, p.writeCert(name, crt)
}

func (p *pki) newKey(name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(filepath.Join(p.dir, name+".key"), pem, 0o600)
}

func (p *pki) writeCert(name string, crt *x509.Certificate) error {
	pem, err := cert.EncodeCertificates(crt)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, name+".crt"), pem, 0o600)
}
