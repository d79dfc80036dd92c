package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Secret says where a secret is, never what it is: {env: NAME} or {file: PATH}.
type Secret struct {
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

// String names the source, for messages.
func (s Secret) String() string {
	if s.Env != "" {
		return "environment variable " + s.Env
	}
	return "file " + s.File
}

// secrets reads secrets and remembers every one that is missing, so that one error names them all.
type secrets struct {
	getenv  func(string) string
	path    func(string) string
	missing []error
}

// get reads the secret of a key; white space around it does not count. An absent Secret is empty and no error.
func (s *secrets) get(key string, from *Secret) string {
	if from == nil {
		return ""
	}
	var value string
	if from.Env != "" {
		value = s.getenv(from.Env)
	} else {
		b, err := os.ReadFile(s.path(from.File))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.miss(key, "%s does not exist", from)
			return ""
		case err != nil:
			s.miss(key, "%v", err)
			return ""
		}
		value = string(b)
	}
	value = strings.TrimSpace(value)
	if value == "" {
		s.miss(key, "%s is empty: set it, or remove the key", from)
	}
	return value
}

func (s *secrets) miss(key, format string, args ...any) {
	s.missing = append(s.missing, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
}

func (s *secrets) err() error { return errors.Join(s.missing...) }
