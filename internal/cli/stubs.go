package cli

import "context"

func runStart(ctx context.Context, s Streams, args []string) error { return fail("not built yet") }
func runConsoleProducer(ctx context.Context, s Streams, args []string) error {
	return fail("not built yet")
}
func runConsoleConsumer(ctx context.Context, s Streams, args []string) error {
	return fail("not built yet")
}
func runConsumerGroups(ctx context.Context, s Streams, args []string) error {
	return fail("not built yet")
}
func runGetOffsets(ctx context.Context, s Streams, args []string) error { return fail("not built yet") }
func runDumpLog(ctx context.Context, s Streams, args []string) error    { return fail("not built yet") }
