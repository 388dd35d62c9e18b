package xds

import "testing"

// TestFileIsNoStream: what a file gives says nothing of the stream.
func TestFileIsNoStream(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.Update(Update{Kind: KindCluster, Variant: VariantDelta, Nonce: "1"})
		r.Update(Update{Kind: KindListener, Variant: VariantSotw})
		if v := r.Status().Variant; v != VariantDelta {
			t.Errorf("variant %q", v)
		}
	})
}
