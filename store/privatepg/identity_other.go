//go:build !linux

package privatepg

import (
	"errors"
	"os"
	"syscall"
)

// identities lists how Postgres may be run here, the best first.
func identities() []identity {
	if os.Geteuid() != 0 {
		return []identity{own()}
	}
	var as []identity
	for _, a := range accounts() {
		as = append(as, switched(a))
	}
	return as
}

// tied keeps a terminal's Ctrl-C from the process. Only Linux can end it when
// we die; elsewhere a server that outlives its owner makes the next start fail
// with Postgres' own message about its pid file.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func passAnywhere(*syscall.SysProcAttr) {}

func processesIn(string) ([]int, error) { return nil, errors.ErrUnsupported }
