package privatepg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// identity is the account that Postgres runs as.
type identity struct {
	name     string
	uid, gid int // whom the cluster's files must belong to; -1: as they are
	// attr is how a process is started with this identity, tied to our life
	// where the system can do that.
	attr func() *syscall.SysProcAttr
}

// account is one of the machine's unprivileged accounts for root to use.
type account struct {
	name     string
	uid, gid int
}

// accounts lists the unprivileged accounts fit for Postgres, the best first.
func accounts() []account {
	var found []account
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue // this machine has no such account
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil {
			found = append(found, account{name: name, uid: uid, gid: gid})
		}
	}
	return found
}

// switched runs as another account, which root can do. On Linux it is also
// allowed to pass any directory: the data directory may lie below one that
// only root can enter. It is no more than a namespaced root can do, and all
// who can talk to this Postgres are root already.
func switched(a account) identity {
	return identity{
		name: "account " + a.name, uid: a.uid, gid: a.gid,
		attr: func() *syscall.SysProcAttr {
			attr := tied()
			attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
			passAnywhere(attr)
			return attr
		},
	}
}

// own runs as the account that we have.
func own() identity {
	return identity{name: "own account", uid: -1, gid: -1, attr: tied}
}

// pick takes the first identity with which Postgres' binary starts. Many
// containers forbid user namespaces, and only trying tells.
func pick(ctx context.Context, as []identity, bin Binaries) (identity, error) {
	var errs []error
	for _, id := range as {
		err := id.try(ctx, bin)
		if err == nil {
			return id, nil
		}
		errs = append(errs, fmt.Errorf("as %s: %w", id.name, err))
	}
	return identity{}, fmt.Errorf("no account to run Postgres with: %w", errors.Join(errs...))
}

func (id identity) try(ctx context.Context, bin Binaries) error {
	cmd := exec.CommandContext(ctx, filepath.Join(bin.Dir, "postgres"), "-V")
	cmd.Dir = "/"
	cmd.SysProcAttr = id.attr()
	return cmd.Run()
}

// take makes dir and all in it the identity's. An earlier start may have
// run as another one. The directory itself comes last: it is the mark of a
// change that went through.
func (id identity) take(dir string) error {
	if id.uid < 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the owner of %s: %w", dir, err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == id.uid {
		return nil
	}
	// By a root that symbolic links can not leave: the account that had the
	// files may still be alive.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("give %s to %s: %w", dir, id.name, err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, id.uid, id.gid)
	})
	if err == nil {
		err = os.Chown(dir, id.uid, id.gid)
	}
	if err != nil {
		return fmt.Errorf("give %s to %s: %w", dir, id.name, err)
	}
	return nil
}
