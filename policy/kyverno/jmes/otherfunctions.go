// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
)

var encodingFunctions = map[string]*function{
	"base64_encode": oneText(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
	"base64_decode": {args: []types{text}, call: base64Decode},
	"sha256":        oneText(func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }),
	"sha1":          oneText(func(s string) string { sum := sha1.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }),
	"md5":           oneText(func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }),
	"x509_decode":   {args: []types{text}, call: x509Decode},
}

var otherFunctions = map[string]*function{
	"random":          {args: []types{text}, call: random},
	"image_normalize": {args: []types{text}, call: imageNormalize},
	"is_external_url": {args: []types{text}, call: isExternalURL},
}

func base64Decode(r *run, args []any) (any, error) {
	b, err := base64.StdEncoding.DecodeString(args[0].(string))
	if err != nil {
		return nil, errors.New("the argument is no base64")
	}
	return string(b), r.spend(len(b))
}

// maxCertificate is how long the text of a certificate may be.
const maxCertificate = 256 << 10

// x509Decode returns the fields that Go has of a certificate, or of a request of one,
// as JSON. Only RSA keys are taken.
func x509Decode(_ *run, args []any) (any, error) {
	s := args[0].(string)
	if len(s) > maxCertificate {
		return nil, errString
	}
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return nil, errors.New("the argument has no PEM block")
	}
	switch block.Type {
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("the PEM block is no certificate")
		}
		if c.PublicKey, err = publicKey(c.PublicKey); err != nil {
			return nil, err
		}
		return fieldsOf(c)
	case "CERTIFICATE REQUEST":
		c, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, errors.New("the PEM block is no request of a certificate")
		}
		if c.PublicKey, err = publicKey(c.PublicKey); err != nil {
			return nil, err
		}
		return fieldsOf(c)
	}
	return nil, errors.New("the PEM block is neither a certificate nor a request of one")
}

func publicKey(key any) (any, error) {
	k, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the certificate has no RSA key")
	}
	return map[string]any{"N": k.N.String(), "E": k.E}, nil
}

func fieldsOf(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, errors.New("the certificate cannot be written as JSON")
	}
	fields := map[string]any{}
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, errors.New("the certificate cannot be read as JSON")
	}
	return fields, nil
}

func imageNormalize(_ *run, args []any) (any, error) {
	image, err := ParseImage(args[0].(string))
	if err != nil {
		return nil, err
	}
	return image.String(), nil
}

// isExternalURL says whether a URL leads out of private networks. Names of hosts are
// not resolved.
func isExternalURL(_ *run, args []any) (any, error) {
	u, err := url.Parse(args[0].(string))
	if err != nil {
		return nil, errors.New("the argument is no URL")
	}
	ip := net.ParseIP(u.Hostname())
	if ip == nil {
		return nil, &UnknownError{"the address of the host of a URL"}
	}
	return !ip.IsLoopback() && !ip.IsPrivate(), nil
}
