// Package.swift says what this target is for.
