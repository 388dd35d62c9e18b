package loader

import "golang.org/x/sys/unix"

// DiskReserve is what stays free of a disk that versions are written to, in bytes:
// for state, leaves and manifests.
const DiskReserve = 16 << 20

// FreeDisk returns the bytes that the disk of a folder has left for this process.
func FreeDisk(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // uint32 on other systems
}
