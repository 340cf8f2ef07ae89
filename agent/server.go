// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sconce.dev/sconce/admission"
)

// server answers the API server. Every replica does.
type server struct {
	address string
	// drain is how long requests are still taken after the end was asked for:
	// until then the API server has learnt that this replica is going.
	drain   time.Duration
	handler http.Handler
	certs   *certificates
	clients *x509.CertPool // who must have signed a caller's certificate; nil asks for none
	log     *slog.Logger
}

// finishing is how long requests that were taken may still last.
const finishing = 10 * time.Second

// NeedLeaderElection says that every replica answers.
func (s *server) NeedLeaderElection() bool { return false }

// Start answers until the context ends, and then what was asked before.
func (s *server) Start(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening for the API server: %w", err)
	}
	http := admission.NewServer(admission.ServerOptions{Handler: s.handler, Certificate: s.certs.GetCertificate, ClientCAs: s.clients})
	failed := make(chan error, 1)
	go func() { failed <- admission.Serve(listener, http) }()
	s.log.Info("webhook", "address", listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("answering the API server: %w", err)
	case <-ctx.Done():
	}
	s.log.Info("webhook ends", "drain", s.drain)
	pause(context.WithoutCancel(ctx), s.drain)
	return s.end(ctx, http, failed)
}

// end lets requests finish that were taken.
func (s *server) end(ctx context.Context, server *http.Server, failed <-chan error) error {
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	err := server.Shutdown(finish)
	if served := <-failed; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	if err != nil {
		return fmt.Errorf("ending the webhook: %w", err)
	}
	return nil
}
