package cli

import "testing"

func TestHeapGrowth(t *testing.T) {
	for _, c := range []struct {
		live uint64
		now  int
		want int
	}{
		{1 << 20, growRarely, growRarely}, {1 << 20, growOften, growRarely}, {40 << 20, growRarely, growRarely}, {40 << 20, growOften, growOften},
		{100 << 20, growRarely, growOften}, {1 << 40, growOften, growOften},
	} {
		if got := heapGrowth(c.live, c.now); got != c.want {
			t.Errorf("%d bytes live at %d%%: %d%%, want %d%%", c.live, c.now, got, c.want)
		}
	}
}
