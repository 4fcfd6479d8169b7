package server

type frameRef struct{}
type slot struct{}
