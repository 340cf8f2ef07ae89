// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"regexp"
	"strings"
)

// Image is the reference of an image, in its parts. Registry is docker.io where the
// reference names none, and Tag is latest where there is neither a tag nor a digest.
type Image struct {
	Registry string // docker.io
	Path     string // library/nginx
	Name     string // nginx
	Tag      string
	Digest   string // sha256:…
}

// String returns the whole reference. It has the digest or, without one, the tag.
func (i *Image) String() string {
	if i.Digest != "" {
		return i.Registry + "/" + i.Path + "@" + i.Digest
	}
	return i.Registry + "/" + i.Path + ":" + i.Tag
}

// The grammar of references: https://pkg.go.dev/github.com/distribution/reference.
const (
	hostPart  = `(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])`
	registry  = `(?:` + hostPart + `(?:\.` + hostPart + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`
	component = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`
	tag       = `\w[\w.-]{0,127}`
	digest    = `[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[[:xdigit:]]{32,}`
)

var (
	reference  = regexp.MustCompile(`^(?:(` + registry + `)/)?(` + component + `(?:/` + component + `)*)(?::(` + tag + `))?(?:@(` + digest + `))?$`)
	goodDigest = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})$`)
)

const (
	defaultRegistry = "docker.io"
	maxImagePath    = 255
	maxImage        = 4096
)

// ParseImage reads the reference of an image as Kyverno does.
func ParseImage(image string) (*Image, error) {
	if len(image) > maxImage {
		return nil, errString
	}
	first, _, more := strings.Cut(image, "/")
	if !more || !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first {
		image = defaultRegistry + "/" + image
	}
	match := reference.FindStringSubmatch(image)
	if match == nil || len(match[2]) > maxImagePath || match[4] != "" && !goodDigest.MatchString(match[4]) {
		return nil, errors.New("it is no reference of an image")
	}
	i := &Image{Registry: match[1], Path: match[2], Tag: match[3], Digest: match[4]}
	i.Name = i.Path[strings.LastIndex(i.Path, "/")+1:]
	if i.Tag == "" && i.Digest == "" {
		i.Tag = "latest"
	}
	return i, nil
}
