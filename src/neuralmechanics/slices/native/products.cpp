// Row and column sums of elementwise products of matrices, all from one read, in double precision.
//
// For each matrix (a parameter with R rows and N columns) and each pair (a, b) of its operands,
//     row[r] = sum_n a[r,n] b[r,n],     column[n] = sum_r a[r,n] b[r,n],
// and then, for each form f of the matrix, out[f, row_place + r] = sum_pairs weight[f, pair] row[pair, r], columns alike.
// Products of floats are exact in double. The plain version of all this stands in blocks.py.

#include "operands.h"

#include <algorithm>
#include <memory>
#include <new>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int64_t kChunk = 4096;      // columns whose sums stay in the cache
constexpr int64_t kUnroll = 8;        // rows that are added before a column's sum is touched
constexpr int64_t kRun = 4;           // vectors of a row that are added apart where no column is summed
constexpr int64_t kParallel = 32768;  // elements below which threads cost more than they save
constexpr int64_t kFewRows = 8;       // rows a thread needs for itself to be worth cutting rows

struct Job {
  int64_t rows, columns;
  int64_t row_place, column_place;  // where the sums go in `out`; -1 where they are not wanted
  Work work;
};

struct Reader {  // where a pair finds an operand now: values of a type, rows a stride apart
  const void* data;
  int64_t type, stride;
};

// One: an operand whose every element is 1, so that a product is the other operand.
struct One {};
inline double times(double a, const One*, int64_t) { return a; }
inline Doubles times(Doubles a, const One*, int64_t) { return a; }
template <typename B>
inline double times(double a, const B* b, int64_t at) { return a * number(b[at]); }
template <typename B>
inline Doubles times(Doubles a, const B* b, int64_t at) { return a * numbers(b + at); }

// Sums of columns are not asked for where `columns` is null; nothing is then read or written for them.
template <typename A, typename B, int64_t U, bool COLUMNS>
void add_products(const A* a, int64_t da, const B* b, int64_t db, int64_t n, double* rows, double* columns) {
  Doubles sum[U] = {};
  double rest[U] = {};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Doubles column = {};
    if constexpr (COLUMNS) column = load<Doubles>(columns + j);
    for (int64_t u = 0; u < U; ++u) {
      const Doubles product = times(numbers(a + u * da + j), b, u * db + j);
      sum[u] += product;
      if constexpr (COLUMNS) column += product;
    }
    if constexpr (COLUMNS) std::memcpy(columns + j, &column, sizeof column);
  }
  for (; j < n; ++j)
    for (int64_t u = 0; u < U; ++u) {
      const double product = times(number(a[u * da + j]), b, u * db + j);
      rest[u] += product;
      if constexpr (COLUMNS) columns[j] += product;
    }
  for (int64_t u = 0; u < U; ++u) rows[u] += total(sum[u]) + rest[u];
}

// A set of pairs of three operands known to the compiler: bit 0 (0,0), 1 (1,0), 2 (1,1), 3 (2,0), 4 (2,1), 5 (2,2), and
// 6, 7, 8 the sums of the operands themselves.
constexpr int64_t kBits = 9;
constexpr int64_t kSetPairs[kBits][2] = {{0, 0}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {2, 2}, {0, -1}, {1, -1}, {2, -1}};
constexpr int64_t size_of(int64_t set) { return set == 0 ? 0 : (set & 1) + size_of(set >> 1); }
constexpr int64_t operands_of(int64_t set) { return set & 0b100111000 ? 3 : set & 0b010000110 ? 2 : 1; }
constexpr int64_t place_in(int64_t set, int64_t bit) { return size_of(set & ((int64_t{1} << bit) - 1)); }
// The kinds of three operands as one number.
constexpr int64_t kinds(int64_t first, int64_t second = kTensor, int64_t third = kTensor) {
  return first | second << 2 | third << 4;
}

// An operand made of floats, from where it is read on.
struct Source {
  const float* first;
  const float* second;
  float scale, root, epsilon;
};

template <int64_t KIND>
inline Doubles values(const Source& x, int64_t at) {
  if constexpr (KIND == kTensor) {
    return numbers(x.first + at);
  } else if constexpr (KIND == kDifference) {
    return numbers(x.first + at) - numbers(x.second + at);
  } else {
    const Floats size = load<Floats>(x.second + at);
    Floats root;
    for (int64_t i = 0; i < kLanes; ++i) root[i] = std::sqrt(size[i]);
    return __builtin_convertvector(x.scale * load<Floats>(x.first + at) / (root * x.root + x.epsilon), Doubles);
  }
}

template <int64_t KIND>
inline double value(const Source& x, int64_t at) {
  if constexpr (KIND == kTensor) return x.first[at];
  else if constexpr (KIND == kDifference) return number(x.first[at]) - number(x.second[at]);
  else return x.scale * x.first[at] / (std::sqrt(x.second[at]) * x.root + x.epsilon);
}

// All pairs of a set from one read of U rows, R vectors of each at a time. Sums of pair p go to rows[p * row_step] and,
// where they are asked for, to columns[p * column_step].
template <int64_t SET, int64_t KINDS, int64_t U, int64_t R, bool COLUMNS>
void add_set(const Source* x, int64_t stride, int64_t n, double* rows, int64_t row_step, double* columns, int64_t column_step) {
  constexpr int64_t P = size_of(SET), K = operands_of(SET), K0 = KINDS & 3, K1 = KINDS >> 2 & 3, K2 = KINDS >> 4 & 3;
  Doubles sum[P][U * R] = {};
  int64_t j = 0;
  for (; j + R * kLanes <= n; j += R * kLanes) {
#pragma GCC unroll 4
    for (int64_t r = 0; r < R; ++r) {
      const int64_t at = j + r * kLanes;
      Doubles column[P];
      if constexpr (COLUMNS) {
#pragma GCC unroll 6
        for (int64_t p = 0; p < P; ++p) column[p] = load<Doubles>(columns + p * column_step + at);
      }
#pragma GCC unroll 8
      for (int64_t u = 0; u < U; ++u) {
        Doubles part[K];
        part[0] = values<K0>(x[0], u * stride + at);
        if constexpr (K > 1) part[1] = values<K1>(x[1], u * stride + at);
        if constexpr (K > 2) part[2] = values<K2>(x[2], u * stride + at);
#pragma GCC unroll 9
        for (int64_t bit = 0; bit < kBits; ++bit) {
          if (!(SET >> bit & 1)) continue;
          const int64_t p = place_in(SET, bit);
          Doubles product = part[kSetPairs[bit][0]];
          if (kSetPairs[bit][1] >= 0) product *= part[kSetPairs[bit][1]];
          sum[p][u * R + r] += product;
          if constexpr (COLUMNS) column[p] += product;
        }
      }
      if constexpr (COLUMNS) {
#pragma GCC unroll 6
        for (int64_t p = 0; p < P; ++p) std::memcpy(columns + p * column_step + at, &column[p], sizeof(Doubles));
      }
    }
  }
  double rest[P][U] = {};
  for (; j < n; ++j)
    for (int64_t u = 0; u < U; ++u) {
      double part[3] = {value<K0>(x[0], u * stride + j), 0, 0};
      if constexpr (K > 1) part[1] = value<K1>(x[1], u * stride + j);
      if constexpr (K > 2) part[2] = value<K2>(x[2], u * stride + j);
      for (int64_t bit = 0; bit < kBits; ++bit) {
        if (!(SET >> bit & 1)) continue;
        const int64_t p = place_in(SET, bit);
        const double product = part[kSetPairs[bit][0]] * (kSetPairs[bit][1] < 0 ? 1.0 : part[kSetPairs[bit][1] & 3]);
        rest[p][u] += product;
        if constexpr (COLUMNS) columns[p * column_step + j] += product;
      }
    }
  for (int64_t p = 0; p < P; ++p)
    for (int64_t u = 0; u < U; ++u) {
      Doubles all = sum[p][u * R];
      for (int64_t r = 1; r < R; ++r) all += sum[p][u * R + r];
      rows[p * row_step + u] += total(all) + rest[p][u];
    }
}

template <int64_t U, bool COLUMNS, typename A>
void add_pair(const A* a, int64_t da, const Reader* b, int64_t n, double* rows, double* columns) {
  if (b == nullptr) return add_products<A, One, U, COLUMNS>(a, da, nullptr, 0, n, rows, columns);
  const int64_t db = b->stride;
  switch (b->type) {
    case kFloat: return add_products<A, float, U, COLUMNS>(a, da, static_cast<const float*>(b->data), db, n, rows, columns);
    case kDouble: return add_products<A, double, U, COLUMNS>(a, da, static_cast<const double*>(b->data), db, n, rows, columns);
    default: return add_products<A, uint16_t, U, COLUMNS>(a, da, static_cast<const uint16_t*>(b->data), db, n, rows, columns);
  }
}

template <int64_t U, bool COLUMNS>
void add_pair(const Reader& a, const Reader* b, int64_t n, double* rows, double* columns) {
  switch (a.type) {
    case kFloat: return add_pair<U, COLUMNS>(static_cast<const float*>(a.data), a.stride, b, n, rows, columns);
    case kDouble: return add_pair<U, COLUMNS>(static_cast<const double*>(a.data), a.stride, b, n, rows, columns);
    default: return add_pair<U, COLUMNS>(static_cast<const uint16_t*>(a.data), a.stride, b, n, rows, columns);
  }
}

int64_t width(int64_t type) { return type == kFloat ? 4 : type == kDouble ? 8 : 2; }

// The operands of `count` rows from `row` and `n` columns from `column`; derived ones are written to `scratch`.
void open(const Job& job, const Address* where, int64_t row, int64_t count, int64_t column, int64_t n, double* scratch, Reader* readers) {
  for (int64_t k = 0; k < job.work.operands; ++k) {
    const Operand& o = job.work.operand[k];
    const int64_t offset = row * job.columns + column;
    if (o.kind == kTensor) {
      readers[k] = {static_cast<const char*>(where[k].first) + offset * width(o.type), o.type, job.columns};
      continue;
    }
    double* out = scratch + k * kUnroll * kChunk;
    for (int64_t u = 0; u < count; ++u) derive(o, where[k], offset + u * job.columns, n, out + u * kChunk);
    readers[k] = {out, kDouble, kChunk};
  }
}

// The set that a job's pairs are, in its order; 0 where they are none, or operands are of other types than floats.
int64_t set_of(const Work& work) {
  if (work.operands > 3) return 0;
  int64_t set = 0, before = -1;
  for (int64_t p = 0; p < work.pairs; ++p) {
    int64_t bit = 0;
    while (bit < kBits && (kSetPairs[bit][0] != work.left[p] || kSetPairs[bit][1] != work.right[p])) ++bit;
    if (bit == kBits || bit <= before) return 0;
    set |= int64_t{1} << bit;
    before = bit;
  }
  for (int64_t k = 0; k < operands_of(set); ++k)
    if (work.operand[k].type != kFloat || work.operand[k].kind == kQuotient) return 0;
  return set;
}

// What a thread adds to: sums of pair p at rows[p * job.rows] and columns[p * job.columns], null where none are wanted.
struct Sums {
  double* rows;
  double* columns;
  double* scratch;
  const Address* where;  // the tensors of the job
};

template <int64_t U, bool COLUMNS>
void add_rows(const Job& job, int64_t r, int64_t c, int64_t n, const Sums& to) {
  Reader readers[kOperands];
  open(job, to.where, r, U, c, n, to.scratch, readers);
  for (int64_t p = 0; p < job.work.pairs; ++p) {
    const Reader* right = job.work.right[p] < 0 ? nullptr : &readers[job.work.right[p]];
    double* columns = COLUMNS ? to.columns + p * job.columns + c : nullptr;
    add_pair<U, COLUMNS>(readers[job.work.left[p]], right, n, to.rows + p * job.rows + r, columns);
  }
}

template <int64_t SET, int64_t KINDS, int64_t U, int64_t R, bool COLUMNS>
void add_set_rows(const Job& job, int64_t r, int64_t c, int64_t n, const Sums& to) {
  Source x[3] = {};
  const int64_t corner = r * job.columns + c;
  for (int64_t k = 0; k < operands_of(SET); ++k) {
    const Operand& o = job.work.operand[k];
    x[k] = {static_cast<const float*>(to.where[k].first) + corner, static_cast<const float*>(to.where[k].second) + corner,
            static_cast<float>(o.scale), static_cast<float>(o.root), static_cast<float>(o.epsilon)};
  }
  double* columns = COLUMNS ? to.columns + c : nullptr;
  add_set<SET, KINDS, U, R, COLUMNS>(x, job.columns, n, to.rows + r, job.rows, columns, job.columns);
}

// The most rows and columns that are read together, and how; how a single row is.
struct Way {
  int64_t together, chunk;
  void (*many)(const Job&, int64_t, int64_t, int64_t, const Sums&);
  void (*one)(const Job&, int64_t, int64_t, int64_t, const Sums&);
};

template <int64_t SET, int64_t KINDS, int64_t U>
Way way(bool columns) {
  if (columns) return {U, kChunk, add_set_rows<SET, KINDS, U, 1, true>, add_set_rows<SET, KINDS, 1, 1, true>};
  return {1, INT64_MAX, add_set_rows<SET, KINDS, 1, kRun, false>, add_set_rows<SET, KINDS, 1, kRun, false>};
}

Way way_of(const Job& job, bool columns) {
  constexpr int64_t plain = kinds(kTensor), moved = kinds(kDifference), adam = kinds(kTensor, kAdam);
  int64_t all = 0;
  for (int64_t k = 0; k < job.work.operands && k < 3; ++k) all |= job.work.operand[k].kind << 2 * k;
  switch (set_of(job.work) << 6 | all) {
    case 0b000000001 << 6 | plain: return way<0b000001, plain, 8>(columns);  // |v|^2
    case 0b000000011 << 6 | plain: return way<0b000011, plain, 8>(columns);  // and <p,v>: the heavy ball
    case 0b000000111 << 6 | plain: return way<0b000111, plain, 4>(columns);  // and |p|^2: plain SGD, its gradient for v
    case 0b000100011 << 6 | plain: return way<0b100011, plain, 4>(columns);  // the heavy ball and |g|^2
    case 0b000111011 << 6 | plain: return way<0b111011, plain, 4>(columns);  // and <g,p>, <g,v>
    case 0b000111111 << 6 | plain: return way<0b111111, plain, 4>(columns);  // Nesterov
    case 0b001000000 << 6 | plain: return way<0b001000000, plain, 8>(columns);  // the sums of one tensor
    case 0b000000011 << 6 | moved: return way<0b000011, moved, 4>(columns);  // a measured step
    case 0b000000111 << 6 | moved: return way<0b000111, moved, 4>(columns);  // beside its decay
    case 0b000000111 << 6 | adam: return way<0b000111, adam, 4>(columns);  // Adam's step
    case 0b011000000 << 6 | adam: return way<0b011000000, adam, 4>(columns);  // its sums
    default: break;
  }
  if (columns) return {kUnroll, kChunk, add_rows<kUnroll, true>, add_rows<1, true>};
  return {kUnroll, kChunk, add_rows<kUnroll, false>, add_rows<1, false>};
}

// Rows [r0, r1) x columns [c0, c1) of a matrix.
void add_tile(const Job& job, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const Sums& to) {
  const Way way = way_of(job, to.columns != nullptr);
  for (int64_t c = c0; c < c1;) {
    const int64_t n = std::min(way.chunk, c1 - c);
    int64_t r = r0;
    for (; r + way.together <= r1; r += way.together) way.many(job, r, c, n, to);
    for (; r < r1; ++r) way.one(job, r, c, n, to);
    c += n;
  }
}

void combine(const Work& work, int64_t size, int64_t place, const double* sums, const double* weights, int64_t stride, double* out) {
  if (place < 0) return;
  for (int64_t f = 0; f < work.forms; ++f) {
    double* to = out + f * stride + place;
    for (int64_t i = 0; i < size; ++i) to[i] = 0;
    for (int64_t p = 0; p < work.pairs; ++p) {
      const double w = weights[work.weights + f * work.pairs + p];
      if (w == 0) continue;
      for (int64_t i = 0; i < size; ++i) to[i] += w * sums[p * size + i];
    }
  }
}

// Whether the threads cut a matrix by rows, so that each has sums of columns of its own, or by columns.
bool cut_by_rows(const Job& job, bool columns, int64_t threads) {
  return job.rows >= job.columns || (!columns && job.rows >= kFewRows * threads);
}

}  // namespace

extern "C" int64_t job_bytes() { return sizeof(Job); }

// Fills out[form, place] (rows `stride` apart) for every job. Returns 0, or 1 where memory for sums is not to be had.
extern "C" int64_t row_column_sums(const Job* jobs, int64_t count, const Address* addresses, const double* weights, double* out, int64_t stride, int64_t threads) {
  try {
    std::vector<double> sums;
    bool derived = false;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < jobs[i].work.operands; ++k) derived = derived || jobs[i].work.operand[k].kind != kTensor;
    const int64_t scratch_size = derived ? kOperands * kUnroll * kChunk : 0;
    const std::unique_ptr<double[]> scratch(new double[static_cast<size_t>(std::max<int64_t>(threads, 1) * scratch_size)]);
    for (int64_t i = 0; i < count; ++i) {
      const Job& job = jobs[i];
      const bool columns_wanted = job.column_place >= 0;
      const int64_t T = job.rows * job.columns < kParallel ? 1 : std::max<int64_t>(threads, 1);
      const bool by_rows = cut_by_rows(job, columns_wanted, T);
      const int64_t row_size = job.work.pairs * job.rows, column_size = columns_wanted ? job.work.pairs * job.columns : 0;
      const int64_t private_size = by_rows ? column_size : row_size;
      sums.assign(static_cast<size_t>(row_size + column_size + (T - 1) * private_size), 0.0);
      double* rows = sums.data();
      double* columns = columns_wanted ? rows + row_size : nullptr;
      double* others = rows + row_size + column_size;
      const auto share = [&](int64_t t) {
        double* mine = others + (t - 1) * private_size;
        const int64_t length = by_rows ? job.rows : job.columns;
        const int64_t begin = length * t / T, end = length * (t + 1) / T;
        Sums to{rows, columns, scratch.get() + t * scratch_size, addresses + job.work.addresses};
        if (t > 0 && by_rows && columns_wanted) to.columns = mine;
        if (t > 0 && !by_rows) to.rows = mine;
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
      combine(job.work, job.rows, job.row_place, rows, weights, stride, out);
      combine(job.work, job.columns, job.column_place, columns, weights, stride, out);
    }
  } catch (const std::bad_alloc&) {
    return 1;
  }
  return 0;
}

// The sparse map from sums to charges, as runs: `count` charges from `charge` on, to each of which `each` neighbours of
// the values from `source` on are added, weighted.
struct Run {
  int32_t source, charge, count, each;
  double weight;
};

extern "C" int64_t run_bytes() { return sizeof(Run); }

// `absolute`: with the sizes of all weights in their place.
extern "C" void add_mixed(const double* values, int64_t stride, int64_t forms, const Run* runs, int64_t count, int64_t absolute, double* out, int64_t charges) {
  for (int64_t i = 0; i < count; ++i) {
    const Run& run = runs[i];
    const double weight = absolute ? std::abs(run.weight) : run.weight;
    for (int64_t f = 0; f < forms; ++f) {
      const double* from = values + f * stride + run.source;
      double* to = out + f * charges + run.charge;
      for (int64_t k = 0; k < run.count; ++k, from += run.each) {
        double sum = from[0];
        for (int64_t e = 1; e < run.each; ++e) sum += from[e];
        to[k] += weight * sum;
      }
    }
  }
}
