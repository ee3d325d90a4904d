// SPDX-License-Identifier: Apache-2.0

// Reads cases as JSON lines and answers one JSON line each: what Go's own packages for signed notes and transparency
// logs (golang.org/x/mod/sumdb/note and tlog) make of our checkpoints, proofs and tiles. Nothing here is our format:
// only the reading of a checkpoint's three lines, and c2sp.org/tlog-cosignature's Ed25519 message, are written out.
package main

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Kind  string   `json:"kind"`
	Vkeys []string `json:"vkeys"`
	Skey  string   `json:"skey"`
	Note  string   `json:"note"`
	Text  string   `json:"text"`
	Index int64    `json:"index"`
	Entry []byte   `json:"entry"`
	Proof [][]byte `json:"proof"`
	Old   string   `json:"old"`
	Tiles string   `json:"tiles"`
}

type answer struct {
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`
	Signed int    `json:"signed,omitempty"`
	Note   string `json:"note,omitempty"`
	Root   []byte `json:"root,omitempty"`
	Proof  []byte `json:"proof,omitempty"`
}

// cosigner verifies a witness's Ed25519 cosignature (type 0x04).
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(head), msg...), sig[8:])
}

func verifier(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("no key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) == 0 {
		return nil, errors.New("no key")
	}
	if key[0] != 4 {
		return note.NewVerifier(vkey)
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil || len(key) != 1+ed25519.PublicKeySize {
		return nil, errors.New("no key")
	}
	return cosigner{parts[0], uint32(hash), ed25519.PublicKey(key[1:])}, nil
}

func open(text string, vkeys []string) (*note.Note, error) {
	var known []note.Verifier
	for _, vkey := range vkeys {
		one, err := verifier(vkey)
		if err != nil {
			return nil, err
		}
		known = append(known, one)
	}
	return note.Open([]byte(text), note.VerifierList(known...))
}

func tree(text string, vkeys []string) (tlog.Tree, error) {
	opened, err := open(text, vkeys)
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

func hashes(proof [][]byte) []tlog.Hash {
	var found []tlog.Hash
	for _, one := range proof {
		var hash tlog.Hash
		copy(hash[:], one)
		found = append(found, hash)
	}
	return found
}

// files reads tiles of height 8 where a ledger keeps them; Go's paths have the height in them, C2SP's do not.
type files struct{ folder string }

func (f files) Height() int                         { return 8 }
func (f files) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(f.folder, path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func judge(c testCase) (answer, error) {
	switch c.Kind {
	case "note":
		opened, err := open(c.Note, c.Vkeys)
		if err != nil {
			return answer{}, err
		}
		return answer{OK: true, Signed: len(opened.Sigs)}, nil
	case "sign":
		signer, err := note.NewSigner(c.Skey)
		if err != nil {
			return answer{}, err
		}
		signed, err := note.Sign(&note.Note{Text: c.Text}, signer)
		return answer{OK: err == nil, Note: string(signed)}, err
	case "inclusion":
		head, err := tree(c.Note, c.Vkeys)
		if err != nil {
			return answer{}, err
		}
		err = tlog.CheckRecord(hashes(c.Proof), head.N, head.Hash, c.Index, tlog.RecordHash(c.Entry))
		return answer{OK: err == nil}, err
	case "consistency":
		head, err := tree(c.Note, c.Vkeys)
		if err != nil {
			return answer{}, err
		}
		old, err := tree(c.Old, c.Vkeys)
		if err != nil {
			return answer{}, err
		}
		err = tlog.CheckTree(hashes(c.Proof), head.N, head.Hash, old.N, old.Hash)
		return answer{OK: err == nil}, err
	case "tiles":
		head, err := tree(c.Note, c.Vkeys)
		if err != nil {
			return answer{}, err
		}
		reader := tlog.TileHashReader(head, files{c.Tiles})
		root, err := tlog.TreeHash(head.N, reader)
		if err != nil {
			return answer{}, err
		}
		proof, err := tlog.ProveRecord(head.N, c.Index, reader)
		if err != nil {
			return answer{}, err
		}
		var joined []byte
		for _, hash := range proof {
			joined = append(joined, hash[:]...)
		}
		return answer{OK: true, Root: root[:], Proof: joined}, nil
	}
	return answer{}, errors.New("no such case")
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<24)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var c testCase
		if err := json.Unmarshal(input.Bytes(), &c); err != nil {
			panic(err)
		}
		found, err := judge(c)
		if err != nil {
			found = answer{Error: err.Error()}
		}
		if err := output.Encode(found); err != nil {
			panic(err)
		}
	}
}
