module github.com/quadnine/quadnine/bench

go 1.26.0

replace github.com/quadnine/quadnine => ../

require (
	github.com/google/pprof v0.0.0-20261016150608-1facf8f91b50
	github.com/quadnine/quadnine v0.0.0-00010101000000-000000000000
	golang.org/x/sys v0.49.0
	lukechampine.com/blake3 v1.4.1
)

require (
	github.com/chzyer/readline v1.5.1 // indirect
	github.com/fsnotify/fsnotify v1.10.1 // indirect
	github.com/ianlancetaylor/demangle v0.0.0-20250417193237-f615e6bd150b // indirect
	github.com/klauspost/cpuid/v2 v2.0.9 // indirect
)
