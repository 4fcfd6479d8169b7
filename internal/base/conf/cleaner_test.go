package conf

import (
	"strings"
	"testing"
)

// The number of cleaner threads may be halved or doubled in one step, and never be 0.
func TestCleanerThreadsChangeInSteps(t *testing.T) {
	b := load(t, "log.cleaner.threads=4\nlog.cleaner.dedupe.buffer.size=134217728")
	for value, want := range map[string]string{
		"2": "", "8": "", "4": "",
		"1": "Log cleaner threads cannot be reduced to less than half the current value 4",
		"9": "Log cleaner threads cannot be increased to more than double the current value 4",
		"0": "Log cleaner threads should be at least 1",
	} {
		err := b.ValidateDynamicBroker(map[string]string{"log.cleaner.threads": value}, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}
