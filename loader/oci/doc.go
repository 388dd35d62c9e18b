// Package oci reads and writes a drop as an OCI image layout: what registries'
// tools copy (skopeo, oras, crane). The media types are ModelPack's (CNCF model
// specification 1), with our own for what that has no type for.
//
//	oci-layout            {"imageLayoutVersion": "1.0.0"}
//	index.json            one descriptor: of the image manifest; renamed into place last
//	blobs/sha256/HEX      image manifest, config, layers
//
// The image manifest has artifactType ArtifactType, a config of ConfigType, and
// one layer for each file of the drop, MANIFEST.json among them; which file a
// layer is says its annotation FilepathKey. Subject is the image manifest of the
// version that the drop's delta or patch is made for.
//
// What counts is MANIFEST.json, which is signed: everything else must agree with
// it, and with the bytes. Parse reads the small blobs, whose digests it checks, and
// says where the large ones lie; their sizes and digests are for who reads them.
//
// # Concurrency
//
// A Layout is plain and safe to read from any goroutine once parsed. Parse and
// Write start nothing.
package oci
