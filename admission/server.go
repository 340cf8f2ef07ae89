// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// ServerOptions say how a handler is served.
type ServerOptions struct {
	Handler http.Handler
	// Certificate returns the serving certificate: Certificates.GetCertificate.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ClientCAs, where they are set, are who must have signed the certificate
	// that a caller presents; others are not let in. An API server presents one
	// where its AdmissionConfiguration says so.
	ClientCAs *x509.CertPool
}

// maxConnections is how many callers are connected at once; others wait to be
// accepted. Each costs some 50 KiB.
const maxConnections = 512

// Serve answers on a listener until the server is shut down. It bounds
// connections and how slowly anybody may send.
func Serve(l net.Listener, s *http.Server) error {
	return s.ServeTLS(netutil.LimitListener(l, maxConnections), "", "")
}

// NewServer returns a server for Serve.
func NewServer(opts ServerOptions) *http.Server {
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: opts.Certificate, ClientCAs: opts.ClientCAs}
	if opts.ClientCAs != nil {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return &http.Server{
		Handler: opts.Handler, TLSConfig: config,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 250, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10},
		// Every broken handshake would be a line: whoever reaches the port could
		// fill the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}
