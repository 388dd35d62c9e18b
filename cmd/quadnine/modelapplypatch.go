package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/patch"
	"github.com/quadnine/quadnine/telemetry"
)

// applyPatchArgs are the arguments that make this program the loader's child.
var applyPatchArgs = []string{"model", "apply-patch"}

// newModelApplyPatch is what the sidecar runs itself as, to apply a patch with
// limits of its own.
func newModelApplyPatch() *cobra.Command {
	return &cobra.Command{
		Use:    applyPatchArgs[1],
		Short:  "Apply a patch, as a child of quadnine run",
		Long:   "Apply a patch. quadnine run starts this; the files are descriptors that it hands over, and the job comes on standard input.",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return patch.Run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// patchChild returns how to run this program as the loader's child. The program
// that runs is meant, also when its file was replaced since.
func (c *modelsConfig) patchChild() (child patch.Child, err error) {
	if c.patchTime < 0 {
		return child, usage(fmt.Errorf("--model-patch-time: is %v: want no negative time", c.patchTime))
	}
	child.Time = c.patchTime
	if c.patchMemory != "" && c.patchMemory != "off" {
		if child.Memory, err = parseSize(c.patchMemory); err != nil {
			return child, usage(fmt.Errorf("--model-patch-memory: %w", err))
		}
	}
	self := "/proc/self/exe"
	if _, err := os.Stat(self); err != nil {
		if self, err = os.Executable(); err != nil {
			return child, fmt.Errorf("find this program, to apply patches: %w", err)
		}
	}
	child.Command = append([]string{self}, applyPatchArgs...)
	return child, nil
}

// patched counts what came of a patch. It is called on a worker of the loader.
func (a *models) patched(p loader.Patched) {
	result := telemetry.ModelPatchApplied
	if p.Err != nil {
		result = telemetry.ModelPatchFailed
	} else {
		a.registry.Count(telemetry.ModelPatchBytes, uint64(p.Target))
	}
	a.registry.Count(result, 1)
	a.lastPatch.Store(&p)
}
