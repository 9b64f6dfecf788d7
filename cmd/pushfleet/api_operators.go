package main

import (
	"context"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/explain"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/stream"
)

func (q *apiQueue) Fuses(ctx context.Context) ([]stream.Fuse, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return s.Fuses(ctx)
}

func (q *apiQueue) Fuse(ctx context.Context, app string, env device.Environment) (stream.Fuse, error) {
	s, err := q.reach()
	if err != nil {
		return stream.Fuse{}, err
	}
	return s.Fuse(ctx, app, env)
}

func (q *apiQueue) ResetFuse(ctx context.Context, app string, env device.Environment, by string) (bool, error) {
	s, err := q.reach()
	if err != nil {
		return false, err
	}
	return feedback.NewFuse(feedback.FuseConfig{Streams: s, Store: q.set, Name: "api"}).Reset(ctx, app, env, by)
}

func (q *apiQueue) DeadLetters(ctx context.Context) (*stream.DeadLetters, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return s.DeadLetters(ctx)
}

func (q *apiQueue) Explain(ctx context.Context, question *explain.Question) (*explain.Explanation, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return (&explain.Explainer{Streams: s, Set: q.set}).Explain(ctx, question)
}
