package cli

import "context"

func notYet() error { return fail("not built yet") }

func runDumpLog(context.Context, Streams, []string) error { return notYet() }
