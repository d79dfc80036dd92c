package main

import "github.com/spf13/cobra"

func newServe(a *app) *cobra.Command      { return later("serve", "x") }
func newMigrate(a *app) *cobra.Command    { return later("migrate", "x") }
func newDiagnose(a *app) *cobra.Command   { return later("diagnose", "x") }
func newRuns(a *app) *cobra.Command       { return later("runs", "x") }
func newKillSwitch(a *app) *cobra.Command { return later("kill-switch", "x") }
