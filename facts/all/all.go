// SPDX-License-Identifier: Apache-2.0

// Package all lists everything that derives facts.
package all

import (
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/facts/controlplane"
	"sconce.dev/sconce/facts/enforcement"
	"sconce.dev/sconce/facts/namespace"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/facts/release"
	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/facts/upgrade"
)

// Singles derive facts from one object.
var Singles = []facts.Single{controlplane.Single, secret.Single, upgrade.Single, release.Single, enforcement.Single}

// Wholes derive facts from all objects together.
var Wholes = []facts.Whole{namespace.Whole, network.Whole, network.Above, rbac.Whole, rbac.Effective, upgrade.Whole, enforcement.Whole, attackpath.Whole}
