import Bytes
import Crypto
import Encoding
import Testing

@Suite struct MerkleTreeTests {
  /// The leaves and roots that the public tests of certificate transparency use.
  private let vectors = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
  ]

  @Test func growsThroughTheVectors() throws {
    var tree = MerkleTree()
    #expect(tree.root == SHA256.hash(""))
    for (index, (leaf, root)) in vectors.enumerated() {
      tree.append(leaf: try #require(Hex.decode(leaf)))
      #expect(tree.size == UInt64(index + 1))
      #expect(tree.root.hex == root)
      #expect(tree.peaks.count == tree.size.nonzeroBitCount)
    }
  }

  /// The definition of RFC 6962, section 2.1, as it stands.
  private func root(_ leaves: ArraySlice<[UInt8]>) -> Digest32 {
    guard leaves.count > 1, let first = leaves.indices.first else {
      return leaves.first.map { SHA256.hash([0] + $0) } ?? SHA256.hash("")
    }
    var split = 1
    while split * 2 < leaves.count { split *= 2 }
    return SHA256.hash([1] + root(leaves[..<(first + split)]).bytes + root(leaves[(first + split)...]).bytes)
  }

  @Test func agreesWithTheDefinitionAndGoesOnAtEverySize() throws {
    let leaves = (0..<70).map { [UInt8](repeating: UInt8($0), count: $0 % 5) }
    var tree = MerkleTree()
    for (index, leaf) in leaves.enumerated() {
      var restored = try #require(MerkleTree(size: tree.size, peaks: tree.peaks))
      tree.append(leaf: leaf)
      restored.append(leafHash: MerkleTree.leafHash(leaf))
      #expect(restored == tree)
      #expect(tree.root == root(leaves[...index]))
    }
    #expect(MerkleTree(size: 3, peaks: [tree.root]) == nil)
    #expect(MerkleTree(size: 0, peaks: [tree.root]) == nil)
  }
}
