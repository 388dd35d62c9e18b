package loader

import "golang.org/x/sys/unix"

// remote reports whether dir is on a file system that others change without this
// kernel being told: inotify(7), "inotify reports only events that a user-space
// program triggers through the filesystem API", which remote writers do not.
func remote(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && isRemote(int64(st.Type)) //nolint:unconvert // an int32 on some machines
}

// isRemote tells by the magic number of a file system: statfs(2).
func isRemote(magic int64) bool {
	switch uint32(magic) { // sign-extended where it is an int32
	case unix.NFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC:
		return true
	default:
		return false
	}
}
