package server

import (
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Fail answers the request with an error, for the whole of it and for each of its parts, as its API has places for that. Where
// there is none, or nobody waits for an answer, the connection is closed. It does nothing to a request that is answered.
func (r *Request) Fail(code wire.ErrorCode) {
	if r.answered.Load() {
		return
	}
	m, ok := failure(r, code)
	if !ok {
		r.Close("no answer can say " + code.Name())
		return
	}
	r.Answer(m)
}

// Rescue is deferred by callbacks that owe the request its answer and run in a goroutine of somebody else: a panic in them is the
// request's failure and nobody else's.
func (r *Request) Rescue() {
	p := recover()
	if p == nil {
		return
	}
	r.sink.panicked(r, p)
}

// panicked tells of a panic and answers for it: with an error, or, if the answer was begun, with the end of the connection.
func (c *conn) panicked(r *Request, p any) {
	c.srv.stats.panics.Add(1)
	begun := r.answered.Load()
	c.srv.log.Error("handler panicked", "api", r.api.name, "version", r.Version(), "connection", c.info.ID, "answered", begun,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if begun {
		c.kill()
		return
	}
	defer func() {
		if again := recover(); again != nil { // whatever the handler fell over, encoding does so, too
			c.kill()
		}
	}()
	r.Fail(wire.ErrUnknownServerError)
}

// over is deferred by the goroutines of a connection: a panic in what is no handler ends the connection and nothing else.
func (c *conn) over(what string) {
	if p := recover(); p != nil {
		c.srv.stats.panics.Add(1)
		c.srv.log.Error(what+" panicked", "connection", c.info.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		c.kill()
	}
}

// fault is deferred by the server's own goroutines.
func (s *Server) fault(who string) {
	if p := recover(); p != nil {
		s.stats.panics.Add(1)
		s.log.Error(who+" panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if s.opts.Fault != nil {
			s.opts.Fault(fmt.Errorf("%s: panic: %v", who, p))
		}
	}
}

// failure makes the answer that gives code wherever it can. It costs reflection, and is made for failures nobody has foreseen.
func failure(r *Request, code wire.ErrorCode) (m wire.Message, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	info, known := api.Lookup(r.Key())
	if !known || r.Unsupported {
		return nil, false
	}
	req := info.NewRequest()
	rd := wire.NewReader(r.Body, wire.NewBudget(len(r.Body), nil))
	req.Decode(rd, r.Version())
	if rd.Err() != nil {
		return nil, false
	}
	if p, produce := req.(*api.ProduceRequest); produce && p.Acks == 0 {
		return nil, false
	}
	resp := info.NewResponse()
	return resp, fill(reflect.ValueOf(resp).Elem(), reflect.ValueOf(req).Elem(), code)
}

var codeType = reflect.TypeFor[wire.ErrorCode]()

// fill puts code into a struct of a response and into an element for each part of the request. It is false if there was no place.
func fill(resp, req reflect.Value, code wire.ErrorCode) (said bool) {
	for i := range resp.NumField() {
		f := resp.Field(i)
		switch {
		case f.Type() == codeType:
			f.Set(reflect.ValueOf(code))
			said = true
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && holdsCode(f.Type().Elem()):
			parts := counterpart(resp.Type().Field(i).Name, f.Type().Elem(), req)
			if !parts.IsValid() {
				continue
			}
			for j := range parts.Len() {
				e := reflect.New(f.Type().Elem()).Elem()
				copyNames(e, parts.Index(j))
				if e.Kind() == reflect.Struct && parts.Index(j).Kind() == reflect.Struct {
					said = fill(e, parts.Index(j), code) || said
				} else {
					said = fill(e, reflect.ValueOf(struct{}{}), code) || said
				}
				f.Set(reflect.Append(f, e))
			}
		}
	}
	return said
}

func holdsCode(t reflect.Type) bool {
	for i := range t.NumField() {
		f := t.Field(i).Type
		if f == codeType || f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct && holdsCode(f.Elem()) {
			return true
		}
	}
	return false
}

// counterpart finds the list of a request that a list of its response repeats: of the same name, or with most in common.
func counterpart(name string, elem reflect.Type, req reflect.Value) reflect.Value {
	var best, only reflect.Value
	most, lists := 0, 0
	for i := range req.NumField() {
		f := req.Field(i)
		if f.Kind() != reflect.Slice || f.Len() == 0 {
			continue
		}
		only = f
		lists++
		common := 0
		for k := range elem.NumField() {
			common += alike(elem.Field(k), f.Type().Elem())
		}
		if req.Type().Field(i).Name == name && common > 0 {
			return f
		}
		if common > most {
			best, most = f, common
		}
	}
	if most == 0 && lists == 1 {
		return only // parts without names are told apart by their order
	}
	return best
}

// alike counts what a field of a response's element can take from an element of a request.
func alike(field reflect.StructField, elem reflect.Type) int {
	if elem.Kind() != reflect.Struct {
		if isName(field) && value(field.Type) == value(elem) {
			return 1
		}
		return 0
	}
	if f, ok := namesake(field, elem); ok && value(f.Type) == value(field.Type) && isName(field) {
		return 1
	}
	return 0
}

// namesake finds the field of a request's element that names the same as a field of the response's.
func namesake(field reflect.StructField, elem reflect.Type) (reflect.StructField, bool) {
	if f, ok := elem.FieldByName(field.Name); ok {
		return f, true
	}
	if isIndex(field.Name) {
		for i := range elem.NumField() {
			if isIndex(elem.Field(i).Name) {
				return elem.Field(i), true
			}
		}
	}
	return reflect.StructField{}, false
}

func isIndex(name string) bool {
	switch name {
	case "PartitionIndex", "Index", "Partition", "PartitionID":
		return true
	}
	return false
}

// isName is true for fields that name a part: strings, ids and indexes, and no counts, codes or contents.
func isName(field reflect.StructField) bool {
	switch value(field.Type).Kind() {
	case reflect.String, reflect.Array:
		return field.Name != "ErrorMessage" && field.Name != "Metadata"
	case reflect.Int64, reflect.Int32, reflect.Int8:
		switch field.Name {
		case "ProducerID", "BrokerID", "ResourceType":
			return true
		}
		return isIndex(field.Name)
	}
	return false
}

func value(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// copyNames copies what names a part.
func copyNames(to, from reflect.Value) {
	for i := range to.NumField() {
		field := to.Type().Field(i)
		if alike(field, from.Type()) == 0 {
			continue
		}
		f := from
		if from.Kind() == reflect.Struct {
			n, _ := namesake(field, from.Type())
			f = from.FieldByIndex(n.Index)
		}
		if f.Kind() == reflect.Pointer {
			if f.IsNil() {
				continue
			}
			f = f.Elem()
		}
		if field.Type.Kind() == reflect.Pointer {
			p := reflect.New(field.Type.Elem())
			p.Elem().Set(f)
			f = p
		}
		to.Field(i).Set(f)
		if from.Kind() != reflect.Struct {
			return
		}
	}
}
