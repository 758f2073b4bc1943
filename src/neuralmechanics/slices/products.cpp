// Row and column sums of elementwise products of matrices, all from one read, in double precision.
//
// For each matrix (a parameter with R rows and N columns) and each pair (a, b) of its operands,
//     row[r] = sum_n a[r,n] b[r,n],     column[n] = sum_r a[r,n] b[r,n],
// and then, for each form f of the matrix, out[f, row_place + r] = sum_pairs weight[f, pair] row[pair, r], columns alike.
// Products of floats are exact in double. The plain version of all this stands in blocks.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int64_t kChunk = 4096;    // columns whose sums stay in the cache
constexpr int64_t kUnroll = 8;      // rows that are added before a column's sum is touched
constexpr int64_t kParallel = 32768;  // elements below which threads cost more than they save
constexpr int64_t kOperands = 6, kPairs = 16;

enum Type : int64_t { kFloat = 0, kDouble = 1, kBfloat16 = 2 };
// What an operand is: a tensor, the difference of two, Adam's step from its two moments, or a quotient of two tensors.
enum Kind : int64_t { kTensor = 0, kDifference = 1, kAdam = 2, kQuotient = 3 };

struct Operand {
  int64_t type, kind;
  double scale, root, epsilon;  // Adam: scale * m / (sqrt(v) * root + epsilon); a quotient has v in the place of its root
};

struct Address {  // of the tensor, or of the two that an operand is made of
  const void* first;
  const void* second;
};

struct Job {
  int64_t rows, columns;
  int64_t row_place, column_place;  // where the sums go in `out`; -1 where they are not wanted
  int64_t operands, pairs, forms;
  int64_t weights;                  // offset into the table of weights: forms x pairs
  int64_t left[kPairs], right[kPairs];  // right -1: the sum of the left operand itself
  Operand operand[kOperands];
  int64_t addresses;  // offset of its operands in the table of addresses
};

struct Reader {  // where a pair finds an operand now: values of a type, rows a stride apart
  const void* data;
  int64_t type, stride;
};

inline float widen(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
inline double number(float x) { return x; }
inline double number(double x) { return x; }
inline double number(uint16_t x) { return widen(x); }

// Eight numbers at once, in the vector types that GCC and Clang share.
constexpr int64_t kLanes = 8;
typedef double Doubles __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(32)));
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(32)));

template <typename V>
inline V load(const void* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline Doubles numbers(const double* x) { return load<Doubles>(x); }
inline Doubles numbers(const float* x) { return __builtin_convertvector(load<Floats>(x), Doubles); }
inline Doubles numbers(const uint16_t* x) {
  const Words wide = __builtin_convertvector(load<Halves>(x), Words) << 16;
  return __builtin_convertvector(load<Floats>(&wide), Doubles);
}
inline double total(Doubles x) { return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])); }

// One: an operand whose every element is 1, so that a product is the other operand.
struct One {};
inline double times(double a, const One*, int64_t) { return a; }
inline Doubles times(Doubles a, const One*, int64_t) { return a; }
template <typename B>
inline double times(double a, const B* b, int64_t at) { return a * number(b[at]); }
template <typename B>
inline Doubles times(Doubles a, const B* b, int64_t at) { return a * numbers(b + at); }

template <typename A, typename B, int64_t U>
void add_products(const A* a, int64_t da, const B* b, int64_t db, int64_t n, double* rows, double* columns) {
  Doubles sum[U] = {};
  double rest[U] = {};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Doubles column = load<Doubles>(columns + j);
    for (int64_t u = 0; u < U; ++u) {
      const Doubles product = times(numbers(a + u * da + j), b, u * db + j);
      sum[u] += product;
      column += product;
    }
    std::memcpy(columns + j, &column, sizeof column);
  }
  for (; j < n; ++j)
    for (int64_t u = 0; u < U; ++u) {
      const double product = times(number(a[u * da + j]), b, u * db + j);
      rest[u] += product;
      columns[j] += product;
    }
  for (int64_t u = 0; u < U; ++u) rows[u] += total(sum[u]) + rest[u];
}

// A set of pairs of three operands known to the compiler: bit 0 (0,0), 1 (1,0), 2 (1,1), 3 (2,0), 4 (2,1), 5 (2,2).
constexpr int64_t kSetPairs[6][2] = {{0, 0}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {2, 2}};
constexpr int64_t size_of(int64_t set) { return set == 0 ? 0 : (set & 1) + size_of(set >> 1); }
constexpr int64_t operands_of(int64_t set) { return set >> 3 ? 3 : set >> 1 ? 2 : 1; }
constexpr int64_t place_in(int64_t set, int64_t bit) { return size_of(set & ((int64_t{1} << bit) - 1)); }

// All pairs of a set from one read. Sums of pair p go to rows[p * row_step] and columns[p * column_step].
template <int64_t SET, int64_t U>
void add_set(const float* const* x, int64_t stride, int64_t n, double* rows, int64_t row_step, double* columns,
             int64_t column_step) {
  constexpr int64_t P = size_of(SET), K = operands_of(SET);
  Doubles sum[P][U] = {};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Doubles column[P];
#pragma GCC unroll 6
    for (int64_t p = 0; p < P; ++p) column[p] = load<Doubles>(columns + p * column_step + j);
#pragma GCC unroll 8
    for (int64_t u = 0; u < U; ++u) {
      Doubles value[K];
#pragma GCC unroll 3
      for (int64_t k = 0; k < K; ++k) value[k] = numbers(x[k] + u * stride + j);
#pragma GCC unroll 6
      for (int64_t bit = 0; bit < 6; ++bit) {
        if (!(SET >> bit & 1)) continue;
        const int64_t p = place_in(SET, bit);
        const Doubles product = value[kSetPairs[bit][0]] * value[kSetPairs[bit][1]];
        sum[p][u] += product;
        column[p] += product;
      }
    }
#pragma GCC unroll 6
    for (int64_t p = 0; p < P; ++p) std::memcpy(columns + p * column_step + j, &column[p], sizeof(Doubles));
  }
  for (int64_t p = 0; p < P; ++p)
    for (int64_t u = 0; u < U; ++u) rows[p * row_step + u] += total(sum[p][u]);
  for (int64_t bit = 0; bit < 6; ++bit) {
    if (!(SET >> bit & 1)) continue;
    const int64_t p = place_in(SET, bit);
    add_products<float, float, U>(x[kSetPairs[bit][0]] + j, stride, x[kSetPairs[bit][1]] + j, stride, n - j,
                                  rows + p * row_step, columns + p * column_step + j);
  }
}

template <int64_t U, typename A>
void add_pair(const A* a, int64_t da, const Reader* b, int64_t n, double* rows, double* columns) {
  if (b == nullptr) return add_products<A, One, U>(a, da, nullptr, 0, n, rows, columns);
  switch (b->type) {
    case kFloat: return add_products<A, float, U>(a, da, static_cast<const float*>(b->data), b->stride, n, rows, columns);
    case kDouble: return add_products<A, double, U>(a, da, static_cast<const double*>(b->data), b->stride, n, rows, columns);
    default: return add_products<A, uint16_t, U>(a, da, static_cast<const uint16_t*>(b->data), b->stride, n, rows, columns);
  }
}

template <int64_t U>
void add_pair(const Reader& a, const Reader* b, int64_t n, double* rows, double* columns) {
  switch (a.type) {
    case kFloat: return add_pair<U>(static_cast<const float*>(a.data), a.stride, b, n, rows, columns);
    case kDouble: return add_pair<U>(static_cast<const double*>(a.data), a.stride, b, n, rows, columns);
    default: return add_pair<U>(static_cast<const uint16_t*>(a.data), a.stride, b, n, rows, columns);
  }
}

template <typename T>
void subtract(const T* a, const T* b, int64_t n, double* out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = number(a[j]) - number(b[j]);
}

template <typename T>
void adam_step(const T* m, const T* v, int64_t n, const Operand& o, double* out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = o.scale * number(m[j]) / (std::sqrt(number(v[j])) * o.root + o.epsilon);
}

// Of floats in floats, as the optimiser itself computes it: roots and quotients of doubles take four times as long.
template <>
void adam_step<float>(const float* m, const float* v, int64_t n, const Operand& o, double* out) {
  const float scale = static_cast<float>(o.scale), root = static_cast<float>(o.root), epsilon = static_cast<float>(o.epsilon);
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = scale * m[j] / (std::sqrt(v[j]) * root + epsilon);
}

template <typename T>
void quotient(const T* m, const T* v, int64_t n, const Operand& o, double* out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = o.scale * number(m[j]) / (number(v[j]) * o.root + o.epsilon);
}

template <typename T>
void derive(const Operand& o, const Address& at, int64_t offset, int64_t n, double* out) {
  const T* a = static_cast<const T*>(at.first) + offset;
  const T* b = static_cast<const T*>(at.second) + offset;
  o.kind == kDifference ? subtract(a, b, n, out) : o.kind == kAdam ? adam_step(a, b, n, o, out) : quotient(a, b, n, o, out);
}

int64_t width(int64_t type) { return type == kFloat ? 4 : type == kDouble ? 8 : 2; }

// The operands of `count` rows from `row` and `n` columns from `column`; derived ones are written to `scratch`.
void open(const Job& job, const Address* where, int64_t row, int64_t count, int64_t column, int64_t n, double* scratch, Reader* readers) {
  for (int64_t k = 0; k < job.operands; ++k) {
    const Operand& o = job.operand[k];
    const int64_t offset = row * job.columns + column;
    if (o.kind == kTensor) {
      readers[k] = {static_cast<const char*>(where[k].first) + offset * width(o.type), o.type, job.columns};
      continue;
    }
    double* out = scratch + k * kUnroll * kChunk;
    for (int64_t u = 0; u < count; ++u) {
      const int64_t at = offset + u * job.columns;
      if (o.type == kFloat) derive<float>(o, where[k], at, n, out + u * kChunk);
      else if (o.type == kDouble) derive<double>(o, where[k], at, n, out + u * kChunk);
      else derive<uint16_t>(o, where[k], at, n, out + u * kChunk);
    }
    readers[k] = {out, kDouble, kChunk};
  }
}

// The set that a job's pairs are, in its order; 0 where they are none.
int64_t set_of(const Job& job) {
  if (job.operands > 3) return 0;
  for (int64_t k = 0; k < job.operands; ++k)
    if (job.operand[k].type != kFloat || job.operand[k].kind != kTensor) return 0;
  int64_t set = 0, before = -1;
  for (int64_t p = 0; p < job.pairs; ++p) {
    int64_t bit = 0;
    while (bit < 6 && (kSetPairs[bit][0] != job.left[p] || kSetPairs[bit][1] != job.right[p])) ++bit;
    if (bit == 6 || bit <= before) return 0;
    set |= int64_t{1} << bit;
    before = bit;
  }
  return set;
}

// What a thread adds to: sums of pair p at rows[p * job.rows] and columns[p * job.columns].
struct Sums {
  double* rows;
  double* columns;
  double* scratch;
  const Address* where;  // the tensors of the job
};

template <int64_t U>
void add_rows(const Job& job, int64_t r, int64_t c, int64_t n, const Sums& to) {
  Reader readers[kOperands];
  open(job, to.where, r, U, c, n, to.scratch, readers);
  for (int64_t p = 0; p < job.pairs; ++p) {
    const Reader* right = job.right[p] < 0 ? nullptr : &readers[job.right[p]];
    add_pair<U>(readers[job.left[p]], right, n, to.rows + p * job.rows + r, to.columns + p * job.columns + c);
  }
}

template <int64_t SET, int64_t U>
void add_set_rows(const Job& job, int64_t r, int64_t c, int64_t n, const Sums& to) {
  const float* x[3] = {};
  for (int64_t k = 0; k < job.operands; ++k) x[k] = static_cast<const float*>(to.where[k].first) + r * job.columns + c;
  add_set<SET, U>(x, job.columns, n, to.rows + r, job.rows, to.columns + c, job.columns);
}

// The most rows that are read together, and one row, for a set of pairs.
struct Way {
  int64_t together;
  void (*many)(const Job&, int64_t, int64_t, int64_t, const Sums&);
  void (*one)(const Job&, int64_t, int64_t, int64_t, const Sums&);
};
template <int64_t SET, int64_t U>
constexpr Way way() { return {U, add_set_rows<SET, U>, add_set_rows<SET, 1>}; }

Way way_of(const Job& job) {
  switch (set_of(job)) {
    case 0b000001: return way<0b000001, 8>();  // |v|^2
    case 0b000011: return way<0b000011, 8>();  // and <p,v>: the heavy ball
    case 0b000111: return way<0b000111, 4>();  // and |p|^2: plain SGD, its gradient in the place of v
    case 0b100011: return way<0b100011, 4>();  // the heavy ball and |g|^2
    case 0b111011: return way<0b111011, 4>();  // and <g,p>, <g,v>
    case 0b111111: return way<0b111111, 4>();  // Nesterov
    default: return {kUnroll, add_rows<kUnroll>, add_rows<1>};
  }
}

// Rows [r0, r1) x columns [c0, c1) of a matrix.
void add_tile(const Job& job, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const Sums& to) {
  const Way way = way_of(job);
  for (int64_t c = c0; c < c1; c += kChunk) {
    const int64_t n = std::min(kChunk, c1 - c);
    int64_t r = r0;
    for (; r + way.together <= r1; r += way.together) way.many(job, r, c, n, to);
    for (; r < r1; ++r) way.one(job, r, c, n, to);
  }
}

void combine(const Job& job, int64_t size, int64_t place, const double* sums, const double* weights, int64_t stride, double* out) {
  if (place < 0) return;
  for (int64_t f = 0; f < job.forms; ++f) {
    double* to = out + f * stride + place;
    for (int64_t i = 0; i < size; ++i) to[i] = 0;
    for (int64_t p = 0; p < job.pairs; ++p) {
      const double w = weights[job.weights + f * job.pairs + p];
      if (w == 0) continue;
      for (int64_t i = 0; i < size; ++i) to[i] += w * sums[p * size + i];
    }
  }
}

}  // namespace

extern "C" int64_t job_bytes() { return sizeof(Job); }

// Fills out[form, place] (rows `stride` apart) for every job. Returns 0, or 1 where memory for sums is not to be had.
extern "C" int64_t row_column_sums(const Job* jobs, int64_t count, const Address* addresses, const double* weights, double* out, int64_t stride, int64_t threads) {
  try {
    std::vector<double> sums;
    bool derived = false;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < jobs[i].operands; ++k) derived = derived || jobs[i].operand[k].kind != kTensor;
    const int64_t scratch_size = derived ? kOperands * kUnroll * kChunk : 0;
    const std::unique_ptr<double[]> scratch(new double[static_cast<size_t>(std::max<int64_t>(threads, 1) * scratch_size)]);
    for (int64_t i = 0; i < count; ++i) {
      const Job& job = jobs[i];
      const int64_t T = job.rows * job.columns < kParallel ? 1 : std::max<int64_t>(threads, 1);
      // The longer side is cut among the threads, so that their private sums are those of the shorter one.
      const bool by_rows = job.rows >= job.columns;
      const int64_t row_size = job.pairs * job.rows, column_size = job.pairs * job.columns;
      const int64_t private_size = by_rows ? column_size : row_size;
      sums.assign(static_cast<size_t>(row_size + column_size + (T - 1) * private_size), 0.0);
      double* rows = sums.data();
      double* columns = rows + row_size;
      double* others = columns + column_size;
      const auto share = [&](int64_t t) {
        double* mine = t == 0 ? nullptr : others + (t - 1) * private_size;
        const int64_t length = by_rows ? job.rows : job.columns;
        const int64_t begin = length * t / T, end = length * (t + 1) / T;
        const Sums to{by_rows || !mine ? rows : mine, by_rows && mine ? mine : columns, scratch.get() + t * scratch_size,
                      addresses + job.addresses};
        if (by_rows) add_tile(job, begin, end, 0, job.columns, to);
        else add_tile(job, 0, job.rows, begin, end, to);
      };
      if (T == 1) {
        share(0);
      } else {
#ifdef _OPENMP
#pragma omp parallel for num_threads(T) schedule(static, 1)
#endif
        for (int64_t t = 0; t < T; ++t) share(t);
      }
      double* shared = by_rows ? columns : rows;
      for (int64_t t = 0; t + 1 < T; ++t)
        for (int64_t k = 0; k < private_size; ++k) shared[k] += others[t * private_size + k];
      combine(job, job.rows, job.row_place, rows, weights, stride, out);
      combine(job, job.columns, job.column_place, columns, weights, stride, out);
    }
  } catch (const std::bad_alloc&) {
    return 1;
  }
  return 0;
}

// out[form, charge[i]] += weight[i] values[form, source[i]]: the sparse map from sums to charges.
extern "C" void add_mixed(const double* values, int64_t stride, int64_t forms, const int32_t* source, const int32_t* charge,
                          const double* weight, int64_t count, double* out, int64_t charges) {
  for (int64_t i = 0; i < count; ++i) {
    const double* from = values + source[i];
    double* to = out + charge[i];
    for (int64_t f = 0; f < forms; ++f) to[f * charges] += weight[i] * from[f * stride];
  }
}
