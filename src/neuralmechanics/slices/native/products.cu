// Row and column sums of elementwise products of matrices on an accelerator, all from one read, in double precision.
//
// What is computed is what products.cpp computes. What precedes this text names the operands and pairs of one kind of
// matrix: OPERANDS(M) is M(0, float, 0) M(1, float, 2) ... (place, type of its tensors, kind), PAIRS(M) is
// M(0, v1, v0) M(1, v0, 1.0) ... (place, left, right), and PAIR_COUNT their number. No sum depends on the order in
// which blocks run: each block writes sums of its tile, which are added in the order of the tiles.

typedef long long int64;

constexpr int kLanes = 32, kWarps = 8, kAcross = 4;
constexpr int kColumns = kLanes * kAcross;  // of a tile; its rows are given, for the host counts tiles by them
constexpr int kRows = TILE_ROWS;

// One matrix, the same at every step. Places in `out` are -1 where a side is not wanted.
struct Job {
  int64 rows, columns, row_place, column_place;
  int64 operands, weights;          // where its operands and its weights [forms, pairs] stand in their tables
  int64 row_partials, column_partials;  // where [pair, tile, row] and [pair, tile, column] stand in the partial sums
};

struct Tile {
  int64 job, row, column;
};

// Outputs of one block: `side` 0 rows, 1 columns; a thread each, or a warp each where `wide`.
struct Share {
  int64 job, start, side, wide;
};

// What changes from step to step: two tensors, and the constants of Adam's step.
struct Operand {
  const void* first;
  const void* second;
  double scale, root, epsilon;
};

__device__ inline double number(float x) { return x; }
__device__ inline double number(double x) { return x; }
__device__ inline double number(unsigned short x) { return __uint_as_float(static_cast<unsigned int>(x) << 16); }

__device__ inline double adam(const Operand& o, double m, double v) { return o.scale * m / (sqrt(v) * o.root + o.epsilon); }
// Of floats in floats, as the optimiser itself computes it.
__device__ inline double adam(const Operand& o, float m, float v) {
  return static_cast<float>(o.scale) * m / (sqrtf(v) * static_cast<float>(o.root) + static_cast<float>(o.epsilon));
}
__device__ inline double adam(const Operand& o, unsigned short m, unsigned short v) { return adam(o, number(m), number(v)); }

template <typename T, int KIND>
__device__ inline double element(const Operand& o, int64 at) {
  const T a = static_cast<const T*>(o.first)[at];
  if (KIND == 0) return number(a);
  const T b = static_cast<const T*>(o.second)[at];
  if (KIND == 1) return number(a) - number(b);
  if (KIND == 2) return adam(o, a, b);
  return o.scale * number(a) / (number(b) * o.root + o.epsilon);
}

__device__ inline double over_warp(double x) {
  for (int apart = kLanes / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
  return x;
}

__device__ inline int64 tiles_of(int64 length, int64 each) { return (length + each - 1) / each; }

extern "C" __global__ void __launch_bounds__(kLanes * kWarps)
partial_sums(const Job* jobs, const Tile* tiles, const Operand* table, double* partials) {
  __shared__ double beside[kWarps][kColumns];
  const Tile tile = tiles[blockIdx.x];
  const Job job = jobs[tile.job];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
#define OPEN(k, T, kind) const Operand o##k = table[job.operands + k];
  OPERANDS(OPEN)
#undef OPEN
  const int64 end = tile.row + kRows < job.rows ? tile.row + kRows : job.rows;
  const int64 across = tiles_of(job.columns, kColumns), down = tiles_of(job.rows, kRows);
  double* row_partials = partials + job.row_partials + tile.column / kColumns * job.rows;
  double columns[PAIR_COUNT][kAcross] = {};
  for (int64 r = tile.row + warp; r < end; r += kWarps) {
    double rows[PAIR_COUNT] = {};
#pragma unroll
    for (int j = 0; j < kAcross; ++j) {
      const int64 c = tile.column + lane + kLanes * j;
      if (c < job.columns) {
        const int64 at = r * job.columns + c;
#define READ(k, T, kind) const double v##k = element<T, kind>(o##k, at);
        OPERANDS(READ)
#undef READ
#define ADD(p, left, right) { const double product = left * right; rows[p] += product; columns[p][j] += product; }
        PAIRS(ADD)
#undef ADD
      }
    }
#pragma unroll
    for (int p = 0; p < PAIR_COUNT; ++p) {
      const double sum = over_warp(rows[p]);
      if (lane == 0) row_partials[p * across * job.rows + r] = sum;
    }
  }
#pragma unroll
  for (int p = 0; p < PAIR_COUNT; ++p) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kAcross; ++j) beside[warp][lane + kLanes * j] = columns[p][j];
    __syncthreads();
    const int64 c = tile.column + threadIdx.x;
    if (threadIdx.x < kColumns && c < job.columns) {
      double sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += beside[w][threadIdx.x];
      partials[job.column_partials + (p * down + tile.row / kRows) * job.columns + c] = sum;
    }
  }
}

// out[form, place] = sum_pairs weight[form, pair] sum_tiles partial[pair, tile, ·], rows of `out` `stride` apart.
extern "C" __global__ void combine(const Job* jobs, const Share* shares, const double* partials, const double* weights,
                                   double* out, int forms, int stride) {
  const Share share = shares[blockIdx.x];
  const Job job = jobs[share.job];
  const int64 length = share.side ? job.columns : job.rows;
  const int64 count = share.side ? tiles_of(job.rows, kRows) : tiles_of(job.columns, kColumns);
  const int64 place = share.side ? job.column_place : job.row_place;
  const double* from = partials + (share.side ? job.column_partials : job.row_partials);
  const int lane = threadIdx.x % kLanes;
  const int64 at = share.start + (share.wide ? threadIdx.x / kLanes : threadIdx.x);
  if (at >= length) return;  // whole warps where a warp has one output
  double sums[PAIR_COUNT];
#pragma unroll
  for (int p = 0; p < PAIR_COUNT; ++p) {
    double sum = 0;
    for (int64 t = share.wide ? lane : 0; t < count; t += share.wide ? kLanes : 1) sum += from[(p * count + t) * length + at];
    sums[p] = share.wide ? over_warp(sum) : sum;
  }
  if (share.wide && lane) return;
  for (int f = 0; f < forms; ++f) {
    double total = 0;
#pragma unroll
    for (int p = 0; p < PAIR_COUNT; ++p) total += weights[job.weights + f * PAIR_COUNT + p] * sums[p];
    out[static_cast<int64>(f) * stride + place + at] = total;
  }
}

// out[form, charge] = sum of weight[i] values[form, source[i]] over first[charge] <= i < first[charge + 1]; a warp each.
extern "C" __global__ void mix(const double* values, int stride, int forms, const int* first, const int* source,
                               const double* weight, double* out, int charges) {
  const int charge = blockIdx.x * kWarps + threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  if (charge >= charges) return;
  for (int f = 0; f < forms; ++f) {
    double sum = 0;
    for (int i = first[charge] + lane; i < first[charge + 1]; i += kLanes)
      sum += weight[i] * values[static_cast<int64>(f) * stride + source[i]];
    sum = over_warp(sum);
    if (lane == 0) out[static_cast<int64>(f) * charges + charge] = sum;
  }
}
