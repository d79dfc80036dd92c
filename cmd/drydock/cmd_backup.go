package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// backupAnswer is what "drydock runs backup" prints: never the manifest, which may hold secrets.
type backupAnswer struct {
	Run       string `json:"run"`
	Carrier   string `json:"carrier"`
	Namespace string `json:"namespace"`
	DaemonSet string `json:"daemonset"`
	UID       string `json:"uid"`
	SHA256    string `json:"sha256"`
	File      string `json:"file"`
}

func newRunsBackup(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "backup RUN --file FILE", Short: "Write the manifest of the DaemonSet that a run deleted, to create it by hand", Args: exactArgs(1),
		Long: `Decrypt the manifest that was kept before a run deleted its DaemonSet for a reapply, and write it to a file of its own (0600,
never over another). It is for the night when Drydock itself can not create the DaemonSet again: look first whether it is
really gone, for "kubectl create" must be the only one that brings it back.

It reads the database and backup_key, and asks no server: manifests may hold secrets in environment values, so the API never
shows them. Exit 1 when the run deleted nothing, or there is no such run.`,
		Example: "  drydock runs backup 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d --file daemonset.yaml\n  kubectl create -f daemonset.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usagef("--file is missing: the manifest may hold secrets, so it is written to a file and never shown")
			}
			cfg, err := a.config()
			if err != nil {
				return err
			}
			s := &secrets{getenv: a.getenv, path: cfg.path}
			return a.databaseToRead(cmd.Context(), cfg, func(ctx context.Context, url string) error {
				if cfg.DatabaseURL != nil && cfg.BackupKey == nil {
					return usagef("backup_key is not configured: the manifests can not be decrypted without the server's")
				}
				key, err := backupKey(cfg, s)
				if err := errors.Join(err, s.err()); err != nil {
					return usagef("%w", err)
				}
				st, err := store.Open(ctx, store.Options{DatabaseURL: url, ReadOnly: true, MaxConns: 2, BackupKey: key})
				if err != nil {
					return remotef("%w", err)
				}
				defer st.Close()
				answer, err := a.backup(ctx, st, args[0], file)
				if err != nil {
					return err
				}
				return a.print(answer, func(w io.Writer) {
					fmt.Fprintf(w, "run\t%s\ncarrier\t%s\ndaemonset\t%s/%s\nfile\t%s\n", answer.Run, one(answer.Carrier), one(answer.Namespace), one(answer.DaemonSet), one(answer.File))
				})
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "the file to write (required); it must not exist")
	return cmd
}

func (a *app) backup(ctx context.Context, st *store.Store, id, file string) (*backupAnswer, error) {
	run, err := st.Run(ctx, id)
	if err != nil {
		return nil, historyError(err)
	}
	var deleted *playbook.OrphanDelete
	for _, i := range slices.Backward(run.Intents) {
		if d, ok := i.Action.(playbook.OrphanDelete); ok {
			deleted = &d
			break
		}
	}
	if deleted == nil {
		return nil, &exitError{exitNo, fmt.Errorf("run %s deleted no DaemonSet: there is no backup", one(id))}
	}
	manifest, err := st.Backup(ctx, run.ID, deleted.BackupSHA256)
	if errors.Is(err, store.ErrNoBackup) {
		return nil, &exitError{exitNo, err}
	}
	if err != nil {
		return nil, &exitError{exitUsage, err} // another key
	}
	text, err := yaml.JSONToYAML(manifest)
	if err != nil {
		return nil, remotef("write the manifest as YAML: %w", err)
	}
	f, err := newSecretFile(file)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(second(f.Write(text)), f.Sync(), f.Close()); err != nil {
		return nil, remotef("write %s: %w", file, err)
	}
	return &backupAnswer{run.ID, run.Target.Carrier, run.Target.Namespace, run.Target.DaemonSet, deleted.UID, deleted.BackupSHA256, file}, nil
}
