package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

func newModelKeygen() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key pair for signing drops: FILE is secret, FILE.pub goes to the sidecars",
		Long: `Make an Ed25519 key pair. What pack --key signs is the whole drop: the bytes of the
version and everything that the manifest says, so a sidecar with --model-key
refuses a drop of which anything was changed.`,
		Example: "  quadnine model keygen -o ship.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usage(errors.New("-o: is needed, like -o ship.key"))
			}
			k, err := delta.GenerateKey()
			if err != nil {
				return err
			}
			// O_EXCL: a key that was there may be the only one that old drops were signed with.
			if err := writeNew(out, k.Marshal(), 0o600); err != nil {
				return err
			}
			if err := writeNew(out+".pub", k.Public().Marshal(), 0o644); err != nil {
				return errors.Join(err, os.Remove(out))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "key %s: sign with --key %s, trust %s.pub\n", k.ID, out, out)
			return err
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "the private key's file; the public one's is beside it with .pub (required)")
	return c
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
