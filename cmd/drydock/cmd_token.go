package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newToken(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make API tokens", Args: cobra.NoArgs, RunE: helpOnly, Example: "  drydock token new"}
	cmd.AddCommand(&cobra.Command{
		Use:   "new",
		Short: "Make an API token and its SHA-256",
		Long: `Make a random API token and its SHA-256. The token goes to whoever will use it; the server's
configuration only gets the hash, as api_tokens[].sha256.`,
		Example: "  drydock token new -o json",
		Args:    exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			token := newToken32()
			out := struct {
				Token  string `json:"token"`
				SHA256 string `json:"sha256"`
			}{token, tokenHash(token)}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "token\t%s\nsha256\t%s\n", out.Token, out.SHA256)
			})
		},
	})
	return cmd
}

// newToken32 is a token with 32 random bytes.
func newToken32() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails; Go ends the program instead
	return "drydock_" + base64.RawURLEncoding.EncodeToString(b)
}

// tokenHash is the hex SHA-256 by which a token is known.
func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
