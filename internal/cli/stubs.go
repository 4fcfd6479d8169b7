package cli

import "context"

func notYet() error { return fail("not built yet") }

func runConsumerGroups(context.Context, Streams, []string) error { return notYet() }
func runDumpLog(context.Context, Streams, []string) error        { return notYet() }
