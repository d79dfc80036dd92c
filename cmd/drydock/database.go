package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg"
)

const backupKeyBytes = 32

// database is where everything durable is: the configured Postgres, or a private one that lives as long as we do.
type database struct {
	url     string
	private *privatepg.Server // nil for a configured Postgres
}

// openDatabase takes database_url where the key is there, and starts the private Postgres only where it is not: a secret
// that is missing must never lead to an empty database in the wrong place.
func openDatabase(ctx context.Context, cfg *Config, s *secrets, log *slog.Logger) (*database, error) {
	if cfg.DatabaseURL != nil {
		url := s.get("database_url", cfg.DatabaseURL)
		if err := s.err(); err != nil {
			return nil, missingSecrets(err)
		}
		if _, err := pgconn.ParseConfig(url); err != nil {
			// Its error would show the text, and the password in it.
			return nil, usagef("database_url (%s) is not a Postgres address: write it like postgres://user:password@host/database", cfg.DatabaseURL)
		}
		return &database{url: url}, nil
	}
	server, err := privatepg.Start(ctx, privatepg.Options{Dir: cfg.path(cfg.DataDir), Log: log})
	switch {
	case errors.Is(err, privatepg.ErrNoBinaries):
		return nil, usagef("%w: install PostgreSQL (apt-get install postgresql), or set database_url", err)
	case errors.Is(err, privatepg.ErrInUse):
		return nil, usagef("%w: another Drydock runs in data_dir %s; stop it, or name another data_dir", err, cfg.path(cfg.DataDir))
	case errors.Is(err, privatepg.ErrOtherVersion):
		return nil, usagef("%w", err)
	case err != nil:
		return nil, remotef("%w", err)
	}
	log.WarnContext(ctx, "database_url is not configured: using a private Postgres, which serves this one replica", "dir", cfg.path(cfg.DataDir))
	return &database{url: server.DSN(), private: server}, nil
}

const stopDatabaseTime = 10 * time.Second

func (d *database) close(log *slog.Logger) {
	if d.private == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopDatabaseTime)
	defer cancel()
	if err := d.private.Stop(ctx); err != nil {
		log.Warn("private Postgres did not stop in time; its next start replays the log", "error", err)
	}
}

// exited is closed when the private Postgres has ended.
func (d *database) exited() <-chan struct{} {
	if d.private == nil {
		return nil
	}
	return d.private.Exited()
}

func missingSecrets(err error) error {
	return usagef("secrets are missing:\n%w", err)
}

// backupKey is the key that encrypts manifests. With the private Postgres it is made on first use. With a configured
// Postgres and no carrier that may be changed there is nothing to encrypt, and any key will do.
func backupKey(cfg *Config, s *secrets) ([]byte, error) {
	if cfg.BackupKey == nil {
		if cfg.DatabaseURL != nil {
			key := make([]byte, backupKeyBytes)
			_, _ = rand.Read(key) // it never fails; Go ends the program instead
			return key, nil
		}
		text, err := keepSecret(filepath.Join(cfg.path(cfg.DataDir), "backup-key"), func() string {
			key := make([]byte, backupKeyBytes)
			_, _ = rand.Read(key)
			return base64.StdEncoding.EncodeToString(key)
		})
		if err != nil {
			return nil, usagef("backup key: %w", err)
		}
		return decodeKey(text)
	}
	text := s.get("backup_key", cfg.BackupKey)
	if text == "" {
		return nil, nil // s knows
	}
	return decodeKey(text)
}

func decodeKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != backupKeyBytes {
		return nil, usagef("backup_key is not %d bytes in base64: make one with: openssl rand -base64 32", backupKeyBytes)
	}
	return key, nil
}

// installation tells our marks on a carrier from another installation's. All replicas of one share the backup key, so it
// is derived from that.
func installation(key []byte) string {
	sum := sha256.Sum256(append([]byte("drydock installation "), key...))
	return hex.EncodeToString(sum[:8])
}

// keepSecret reads a secret from a file that only we may read, and makes it on first use.
func keepSecret(file string, newSecret func() string) (string, error) {
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		text := strings.TrimSpace(string(b))
		if text == "" {
			return "", fmt.Errorf("%s is empty: remove it, and a new one is made", file)
		}
		return text, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", err
	}
	text := newSecret()
	// First a file of another name: a crash leaves either no secret or a whole one.
	temporary, err := os.CreateTemp(filepath.Dir(file), ".new-*") // 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.WriteString(text + "\n")
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(temporary.Name(), file); err != nil {
		return "", err
	}
	return text, nil
}

// killSwitchFile answers for the file that stops changes without a database: data_dir/kill-switch for all carriers,
// data_dir/kill-switch.<carrier> for one. Its first line is the reason.
func killSwitchFile(dataDir string) func(carrier string) string {
	return func(carrier string) string {
		for _, name := range []string{switchFileName, switchFileName + "." + carrier} {
			b, err := os.ReadFile(filepath.Join(dataDir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			// A file that is there and can not be read stops too.
			reason, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
			if reason == "" {
				return "file " + name + " in data_dir exists"
			}
			return reason + " (file " + name + " in data_dir)"
		}
		return ""
	}
}

// readDatabase opens the history for one command that only reads: the configured Postgres, or the private one, which may be
// running for a server or is started for the command.
func (a *app) readDatabase(ctx context.Context, read func(ctx context.Context, cfg *Config, st *store.Store) error) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	return a.databaseToRead(ctx, cfg, func(ctx context.Context, url string) error {
		st, err := store.Open(ctx, store.Options{DatabaseURL: url, ReadOnly: true, MaxConns: 4})
		if err != nil {
			return remotef("%w", err)
		}
		defer st.Close()
		return read(ctx, cfg, st)
	})
}

func (a *app) databaseToRead(ctx context.Context, cfg *Config, use func(ctx context.Context, url string) error) error {
	if cfg.DatabaseURL == nil {
		dir := cfg.path(cfg.DataDir)
		url, err := privatepg.Running(ctx, dir)
		switch {
		case err == nil:
			return use(ctx, url)
		case errors.Is(err, privatepg.ErrNoCluster):
			return usagef("there is no history in data_dir %s: name the configuration that the server runs with (--config), or set database_url", dir)
		case !errors.Is(err, privatepg.ErrNotRunning):
			return remotef("%w", err)
		}
	}
	return a.withDatabase(ctx, use)
}

// historyError gives an error of the history its exit code.
func historyError(err error) error {
	if errors.Is(err, playbook.ErrNoRun) {
		return &exitError{exitNo, fmt.Errorf("%w: \"drydock runs list\" shows which there are", err)}
	}
	return remotef("%w", err)
}
