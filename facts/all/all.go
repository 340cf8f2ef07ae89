// SPDX-License-Identifier: Apache-2.0

// Package all lists everything that derives facts.
package all

import "sconce.dev/sconce/facts"

// Singles derive facts from one object.
var Singles = []facts.Single{}

// Wholes derive facts from all objects together.
var Wholes = []facts.Whole{}
