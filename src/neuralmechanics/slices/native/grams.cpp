// Gram matrices of blocks of channels of elementwise derived tensors, in double precision.
//
// A tensor is seen as outer x channels x inner; a block is a list of its channels, rows of a matrix A [width, outer * inner].
// For each pair (a, b) of operands and each form f,
//     out[f, place + (i, j)] += sign * sum_p weight[f, p] (A_p B_p^T + B_p A_p^T)[i, j] / 2   for i <= j, row after row.
// Blocks of one group, which add to the same places, are one thread's work, so that sums do not depend on the threads.
// The plain version stands in grams.py.

#include "operands.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int64_t kDepth = 64;  // elements of every channel that are multiplied while they are in the cache
constexpr int64_t kLine = 64;   // bytes that come from memory together
constexpr int64_t kWide = 8;    // channels that are multiplied together

struct Job {
  int64_t outer, channels, inner, unused;
  Work work;
};

struct Block {
  int64_t job;
  int64_t first, width;  // its channels in the table of channels
  int64_t place;
  double sign;
};

struct Bench {  // what a thread works on
  std::vector<double> panels, sums, runs;
};

// Rows of a tile, and registers of one of its rows: eight sums, which fit the registers of every processor.
constexpr int64_t kTall = kLanes, kParts = kWide / kLanes;

// sums[n, i] += sign * sum_k a[k, n] b[k, i] of a tile of kTall x 8; panels hold the channels of one element after the other.
inline void add_tile(const double* a, const double* b, int64_t depth, int64_t padded, double sign, double* sums) {
  Doubles acc[kTall][kParts] = {};
  for (int64_t k = 0; k < depth; ++k, a += padded, b += padded) {
    Doubles x[kParts];
#pragma GCC unroll 4
    for (int64_t i = 0; i < kParts; ++i) x[i] = load<Doubles>(b + i * kLanes);
#pragma GCC unroll 8
    for (int64_t n = 0; n < kTall; ++n)
#pragma GCC unroll 4
      for (int64_t i = 0; i < kParts; ++i) acc[n][i] += x[i] * a[n];
  }
  for (int64_t n = 0; n < kTall; ++n)
    for (int64_t i = 0; i < kParts; ++i) {
      double* to = sums + n * padded + i * kLanes;
      const Doubles all = load<Doubles>(to) + sign * acc[n][i];
      std::memcpy(to, &all, sizeof all);
    }
}

// Sums [channel of a, channel of b]; of one operand with itself the tiles from the diagonal on suffice.
void add_product(const double* a, const double* b, int64_t depth, int64_t padded, double sign, double* sums) {
  for (int64_t n = 0; n < padded; n += kTall)
    for (int64_t i = a == b ? n / kWide * kWide : 0; i < padded; i += kWide)
      add_tile(a + n, b + i, depth, padded, sign, sums + n * padded + i);
}

// Ask for the memory of `n` elements from `offset` on, which will be read soon.
inline void fetch(const Operand& operand, const Address& at, int64_t offset, int64_t n) {
  const int64_t size = operand.type == kFloat ? 4 : operand.type == kDouble ? 8 : 2;
  for (const void* tensor : {at.first, at.second}) {
    if (tensor == nullptr) continue;
    const char* from = static_cast<const char*>(tensor) + offset * size;
    for (int64_t byte = 0; byte < n * size; byte += kLine) __builtin_prefetch(from + byte);
  }
}

// What is read of a tensor: an operand of a job, channels of it.
struct View {
  const Job& job;
  const Operand& operand;
  const Address& where;
  const int64_t* channels;
  int64_t width, padded;
};

// Elements [begin, end) of every channel, which stand side by side, as [element, channel].
void fill_beside(const View& x, int64_t begin, int64_t end, double* panel) {
  bool straight = true;
  for (int64_t i = 1; i < x.width; ++i) straight = straight && x.channels[i] == x.channels[0] + i;
  for (int64_t e = begin; e < end; ++e) {
    double* to = panel + (e - begin) * x.padded;
    const int64_t offset = e * x.job.channels + x.channels[0];
    if (!straight) {
      for (int64_t i = 0; i < x.width; ++i) derive(x.operand, x.where, e * x.job.channels + x.channels[i], 1, to + i);
      continue;
    }
    // Rows lie far apart, where no processor looks ahead by itself.
    if (e + kDepth < x.job.outer) fetch(x.operand, x.where, offset + kDepth * x.job.channels, x.width);
    derive(x.operand, x.where, offset, x.width, to);
  }
}

// The same of channels whose elements stand side by side, eight channels at a time.
void fill_along(const View& x, int64_t begin, int64_t end, double* runs, double* panel) {
  const int64_t inner = x.job.inner, span = x.job.channels * inner;
  for (int64_t i = 0; i < x.width; i += kWide) {
    const int64_t count = std::min(kWide, x.width - i);
    for (int64_t u = 0; u < count; ++u)
      for (int64_t e = begin; e < end;) {
        const int64_t at = e % inner, n = std::min(end - e, inner - at);
        derive(x.operand, x.where, e / inner * span + x.channels[i + u] * inner + at, n, runs + u * kDepth + e - begin);
        e += n;
      }
    for (int64_t e = 0; e < end - begin; ++e) {
      double* to = panel + e * x.padded + i;
      for (int64_t u = 0; u < count; ++u) to[u] = runs[u * kDepth + e];
    }
  }
}

int64_t padded_width(const Block& block) { return (block.width + kWide - 1) / kWide * kWide; }

void add_block(const Job& job, const Block& block, const int64_t* channels, const Address* where, Bench& bench) {
  const Work& work = job.work;
  const int64_t padded = padded_width(block), elements = job.outer * job.inner;
  bench.runs.resize(kWide * kDepth);
  bench.panels.assign(static_cast<size_t>(work.operands * kDepth * padded), 0.0);
  const auto panel = [&](int64_t k) { return bench.panels.data() + k * kDepth * padded; };
  for (int64_t e = 0; e < elements; e += kDepth) {
    const int64_t end = std::min(e + kDepth, elements);
    for (int64_t k = 0; k < work.operands; ++k) {
      const View x{job, work.operand[k], where[k], channels + block.first, block.width, padded};
      job.inner == 1 ? fill_beside(x, e, end, panel(k)) : fill_along(x, e, end, bench.runs.data(), panel(k));
    }
    for (int64_t p = 0; p < work.pairs; ++p) {
      double* sums = bench.sums.data() + p * padded * padded;
      add_product(panel(work.left[p]), panel(work.right[p]), end - e, padded, block.sign, sums);
    }
  }
}

// The forms of the sums of blocks at one place.
void combine(const Work& work, const Block& block, const double* weights, double* out, int64_t stride, const Bench& bench) {
  const int64_t padded = padded_width(block);
  for (int64_t p = 0; p < work.pairs; ++p) {
    const double* sums = bench.sums.data() + p * padded * padded;
    const bool symmetric = work.left[p] == work.right[p];
    for (int64_t f = 0; f < work.forms; ++f) {
      const double w = weights[work.weights + f * work.pairs + p];
      if (w == 0) continue;
      double* to = out + f * stride + block.place;
      for (int64_t i = 0; i < block.width; to += block.width - i, ++i) {
        const double* upper = sums + i * padded;
        if (symmetric) {
          for (int64_t j = i; j < block.width; ++j) to[j - i] += w * upper[j];
        } else {
          for (int64_t j = i; j < block.width; ++j) to[j - i] += 0.5 * w * (upper[j] + sums[j * padded + i]);
        }
      }
    }
  }
}

// Whether two tensors' products enter the forms in the same way.
bool alike(const Work& a, const Work& b, const double* weights) {
  const size_t pairs = static_cast<size_t>(a.pairs), all = static_cast<size_t>(a.forms * a.pairs);
  return a.pairs == b.pairs && a.forms == b.forms && !std::memcmp(a.left, b.left, pairs * sizeof *a.left) &&
         !std::memcmp(a.right, b.right, pairs * sizeof *a.right) &&
         !std::memcmp(weights + a.weights, weights + b.weights, all * sizeof *weights);
}

}  // namespace

extern "C" int64_t block_bytes() { return sizeof(Block); }

// Adds the blocks of group g, [groups[g], groups[g + 1]), to out[form, place] (forms `stride` apart). Returns 0, or 1
// where memory for sums is not to be had.
extern "C" int64_t gram_sums(const Job* jobs, const Block* blocks, const int64_t* groups, int64_t count, const int64_t* channels, const Address* addresses, const double* weights, double* out, int64_t stride, int64_t threads) {
  std::atomic<bool> failed{false};
#ifdef _OPENMP
#pragma omp parallel num_threads(std::max<int64_t>(threads, 1))
#endif
  {
    Bench bench;
#ifdef _OPENMP
#pragma omp for schedule(dynamic, 1)
#endif
    for (int64_t g = 0; g < count; ++g) {
      try {  // nothing may be thrown out of a thread
        for (int64_t b = groups[g]; b < groups[g + 1];) {
          const Work& work = jobs[blocks[b].job].work;
          const int64_t first = b, padded = padded_width(blocks[b]);
          bench.sums.assign(static_cast<size_t>(work.pairs * padded * padded), 0.0);
          for (; b < groups[g + 1] && alike(work, jobs[blocks[b].job].work, weights); ++b) {
            const Job& job = jobs[blocks[b].job];
            add_block(job, blocks[b], channels, addresses + job.work.addresses, bench);
          }
          combine(work, blocks[first], weights, out, stride, bench);
        }
      } catch (const std::bad_alloc&) {
        failed = true;
      }
    }
  }
  return failed ? 1 : 0;
}
