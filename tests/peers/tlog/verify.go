// Verifies a copy of a log with the packages that the Go checksum database is verified with.
//
//	verify DIR LOG.VKEY OLD.CHECKPOINT
//
// DIR is laid out as C2SP tlog-tiles. Ends with status 1 and a reason unless the log's key has signed both checkpoints,
// every entry has the hash that the newer one authenticates, and the newer one continues the older one.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8
const tileWidth = 1 << tileHeight

func main() {
	if len(os.Args) != 4 {
		fail(errors.New("usage: verify DIR LOG.VKEY OLD.CHECKPOINT"))
	}
	if err := verify(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func verify(dir, keyFile, oldFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	head, err := signedHead(filepath.Join(dir, "checkpoint"), key)
	if err != nil {
		return err
	}
	old, err := signedHead(oldFile, key)
	if err != nil {
		return err
	}
	// Reads no tile without proving it against the head.
	hashes := tlog.TileHashReader(head, folder(dir))
	if err := verifyEntries(folder(dir), head.N, hashes); err != nil {
		return err
	}
	if old.N > head.N {
		return fmt.Errorf("%d entries are fewer than the %d of before", head.N, old.N)
	}
	proof, err := tlog.ProveTree(head.N, old.N, hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, head.N, head.Hash, old.N, old.Hash); err != nil {
		return err
	}
	fmt.Printf("%d entries, continuing %d\n", head.N, old.N)
	return nil
}

// signedHead reads origin, size and root of a checkpoint that the key has signed.
func signedHead(file string, key note.Verifier) (head tlog.Tree, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return head, err
	}
	opened, err := note.Open(text, note.VerifierList(key))
	if err != nil {
		return head, fmt.Errorf("%s: %w", file, err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != key.Name() {
		return head, fmt.Errorf("%s is no checkpoint of %s", file, key.Name())
	}
	if head.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return head, err
	}
	head.Hash, err = tlog.ParseHash(lines[2])
	return head, err
}

func verifyEntries(dir folder, size int64, hashes tlog.HashReader) error {
	for first := int64(0); first < size; first += tileWidth {
		width := size - first
		if width > tileWidth {
			width = tileWidth
		}
		entries, err := dir.entries(first/tileWidth, width)
		if err != nil {
			return err
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		expected, err := hashes.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, entry := range entries {
			if tlog.RecordHash(entry) != expected[i] {
				return fmt.Errorf("entry %d is not the one of the tree", first+int64(i))
			}
		}
	}
	return nil
}

// folder is a copy of a log; as a tlog.TileReader it has only tiles of hashes.
type folder string

func (dir folder) Height() int { return tileHeight }

func (dir folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		bytes, err := os.ReadFile(filepath.Join(string(dir), c2spPath(tile)))
		if err != nil {
			return nil, err
		}
		data[i] = bytes
	}
	return data, nil
}

func (dir folder) SaveTiles([]tlog.Tile, [][]byte) {}

// entries reads as many entries as a tile of this width has, and nothing behind them.
func (dir folder) entries(index, width int64) ([][]byte, error) {
	tile := tlog.Tile{H: tileHeight, L: 0, N: index, W: int(width)}
	path := strings.Replace(c2spPath(tile), "tile/0/", "tile/entries/", 1)
	bytes, err := os.ReadFile(filepath.Join(string(dir), path))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for int64(len(entries)) < width {
		if len(bytes) < 2 || len(bytes)-2 < int(binary.BigEndian.Uint16(bytes)) {
			return nil, fmt.Errorf("%s is cut off", path)
		}
		end := 2 + int(binary.BigEndian.Uint16(bytes))
		entries = append(entries, bytes[2:end])
		bytes = bytes[end:]
	}
	if len(bytes) > 0 {
		return nil, fmt.Errorf("%s has more than its entries", path)
	}
	return entries, nil
}

// c2spPath leaves out the height, which C2SP has fixed.
func c2spPath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}
