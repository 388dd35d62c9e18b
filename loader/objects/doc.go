// Package objects is object storage, by the S3 API, as a second source of model
// versions and as the place for old ones.
//
// A bucket holds drops as a directory does, at PREFIX/MODEL/VERSION/: the files
// first, MANIFEST.json last. Source looks at the list every so often, chooses for
// each model the newest version that the loader would take, finds the way to it
// that moves the fewest bytes (deltas over what is here, or a full file), fetches
// exactly those files into a private directory and reports them as one drop with
// the versions below it. What the bucket does wrong is a Problem that
// /models shows; drops of other sources do not notice. Versions that nothing here
// needs any more go to the bucket when they are old enough, and from the local
// store once they were read back from there unchanged.
//
//	b, err := objects.Open("s3://models/prod?region=eu-central-1", objects.Options{})
//	s := objects.NewSource(b, objects.SourceOptions{Dir: dir})
//	l, err := loader.Open(ctx, loader.Options{Source: loader.Merge(watcher, s), Retain: true, ...})
//	s.Start(l)
//
// # Concurrency
//
// All methods of Bucket and Source are safe for concurrent use. A Source has one
// goroutine that looks, at most four that fetch, each for a model of its own, and
// one that tiers.
package objects
