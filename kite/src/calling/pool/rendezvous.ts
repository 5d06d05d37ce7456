/**
 * How high an id stands for a key ("rendezvous hashing"): every key has an order of all ids of its own. When an id comes or
 * goes, only the keys for which it stands highest move, and everybody who knows the same ids computes the same order.
 */
function standing(key: string, id: string): number {
  // FNV-1a, then the finish of MurmurHash3: without it, ids that differ in their last letter would stand side by side.
  let hash = 0x811c9dc5;
  for (const text of [key, "\n", id]) {
    for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The one that stands highest; of equals the one whose id is smaller, for everybody alike. */
export function highest<M extends { readonly id: string }>(key: string, members: readonly M[]): M | undefined {
  return inOrder(key, members)[0];
}

/** All of them, from the highest down. */
export function inOrder<M extends { readonly id: string }>(key: string, members: readonly M[]): M[] {
  const ranked = members.map((member) => ({ member, rank: standing(key, member.id) }));
  ranked.sort((a, b) => b.rank - a.rank || (a.member.id < b.member.id ? -1 : 1));
  return ranked.map(({ member }) => member);
}
