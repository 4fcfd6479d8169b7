package coord

// queue is what comes out in the order in which it went in. Its memory is used again.
type queue[T any] struct {
	list []T
	at   int // what is before it has come out
}

// keptSpare bounds, in elements, the memory that is kept for what comes next.
const keptSpare = 256

func (q *queue[T]) len() int { return len(q.list) - q.at }

// all returns what is in the queue, until it changes.
func (q *queue[T]) all() []T { return q.list[q.at:] }

// first returns what comes out next, until the queue changes.
func (q *queue[T]) first() *T { return &q.list[q.at] }

func (q *queue[T]) push(x T) {
	if q.at > 0 && len(q.list) == cap(q.list) && q.at >= len(q.list)/2 {
		n := copy(q.list, q.list[q.at:]) // rather than to grow
		clear(q.list[n:])
		q.list, q.at = q.list[:n], 0
	}
	q.list = append(q.list, x)
}

func (q *queue[T]) pop() T {
	var none T
	x := q.list[q.at]
	q.list[q.at] = none
	q.at++
	if q.at == len(q.list) {
		if q.list, q.at = q.list[:0], 0; cap(q.list) > keptSpare {
			q.list = nil
		}
	}
	return x
}
