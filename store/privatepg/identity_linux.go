package privatepg

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// identities lists how Postgres may be run here, the best first.
func identities() []identity {
	if os.Geteuid() != 0 {
		return []identity{own()}
	}
	var as []identity
	others := accounts()
	if len(others) > 0 {
		as = append(as, namespaced(others[0]))
	}
	for _, a := range others {
		as = append(as, switched(a))
	}
	return as
}

// namespaced runs as root in a user namespace where root's number is another
// account's. Files stay root's, and nothing else changes hands. The number
// must be one that the machine knows: initdb looks its name up.
func namespaced(a account) identity {
	return identity{
		name: "root in a user namespace", uid: 0, gid: 0,
		attr: func() *syscall.SysProcAttr {
			attr := tied()
			attr.Cloneflags = syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: a.uid, HostID: 0, Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: a.gid, HostID: 0, Size: 1}}
			return attr
		},
	}
}

// tied ends a process when we die, in the way that is a fast shutdown to
// Postgres, and keeps a terminal's Ctrl-C from it: the service needs its
// database until its own shutdown is done.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT, Setpgid: true}
}

// capDACOverride is CAP_DAC_OVERRIDE of linux/capability.h.
const capDACOverride = 1

func passAnywhere(attr *syscall.SysProcAttr) { attr.AmbientCaps = []uintptr{capDACOverride} }

// processesIn lists the processes that work in a directory. Postgres and all
// its children do that in their cluster.
func processesIn(dir string) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // another account's, or gone
		}
		if err != nil {
			return nil, err
		}
		if cwd != dir {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
