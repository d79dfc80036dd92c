package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// sealer encrypts manifests. A row's run and checksum are authenticated with it, so that rows can not be swapped.
type sealer struct{ aead cipher.AEAD }

// newSealer also proves that what would be stored is not what was given.
func newSealer(key []byte) (sealer, error) {
	if len(key) != 32 {
		return sealer{}, fmt.Errorf("backup key has %d bytes, AES-256 needs 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("backup key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealer{}, fmt.Errorf("backup key: %w", err)
	}
	s := sealer{aead}
	sample := []byte(`{"kind":"DaemonSet"}`)
	nonce, ciphertext := s.seal("run", "sha", sample)
	if bytes.Contains(ciphertext, sample) {
		return sealer{}, errors.New("backup encryption does not encrypt")
	}
	if opened, err := s.open("run", "sha", nonce, ciphertext); err != nil || !bytes.Equal(opened, sample) {
		return sealer{}, errors.New("backup encryption can not be read back")
	}
	return s, nil
}

func (s sealer) seal(run, sha256 string, plain []byte) (nonce, ciphertext []byte) {
	nonce = make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return nonce, s.aead.Seal(nil, nonce, plain, about(run, sha256))
}

func (s sealer) open(run, sha256 string, nonce, ciphertext []byte) ([]byte, error) {
	if len(nonce) != s.aead.NonceSize() {
		return nil, fmt.Errorf("nonce has %d bytes", len(nonce))
	}
	return s.aead.Open(nil, nonce, ciphertext, about(run, sha256))
}

func about(run, sha256 string) []byte { return []byte(run + "\x00" + sha256) }

// Backup implements playbook.Ledger. The error is ErrNoBackup when there is none; one that does not decrypt was written
// under another backup_key, or tampered with.
func (s *Store) Backup(ctx context.Context, runID, sha256 string) (playbook.Manifest, error) {
	var nonce, ciphertext []byte
	err := s.pool.QueryRow(ctx, `SELECT nonce, ciphertext FROM backups WHERE run = $1 AND sha256 = $2`, runID, sha256).
		Scan(&nonce, &ciphertext)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read backup %s of run %s: %w", sha256, runID, ErrNoBackup)
	}
	if err != nil {
		return nil, fmt.Errorf("read backup %s of run %s: %w", sha256, runID, err)
	}
	plain, err := s.seal.open(runID, sha256, nonce, ciphertext)
	if err != nil {
		return nil, fmt.Errorf("decrypt backup %s of run %s (another backup_key?): %w", sha256, runID, err)
	}
	return plain, nil
}
