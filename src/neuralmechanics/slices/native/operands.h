// What is read of a step: tensors, and what is made of two of them element by element, as numbers in double precision.

#ifndef NEURALMECHANICS_OPERANDS_H
#define NEURALMECHANICS_OPERANDS_H

#include <cmath>
#include <cstdint>
#include <cstring>

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

// Which products of a tensor's operands are wanted: form f is sum_p weight[f, p] left_p right_p.
struct Work {
  int64_t operands, pairs, forms;
  int64_t weights;                      // offset into the table of weights: forms x pairs
  int64_t left[kPairs], right[kPairs];  // right -1: the sum of the left operand itself
  Operand operand[kOperands];
  int64_t addresses;  // offset of its operands in the table of addresses
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

// As many doubles at once as a register holds, in the vector types that GCC and Clang share: sums of wider ones would be
// kept in memory.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 8;
#elif defined(__AVX__)
constexpr int64_t kLanes = 4;
#else
constexpr int64_t kLanes = 2;
#endif
typedef double Doubles __attribute__((vector_size(8 * kLanes)));
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

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
inline double total(Doubles x) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

template <typename T>
void widen(const T* a, int64_t n, double* out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = number(a[j]);
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
inline void adam_step<float>(const float* m, const float* v, int64_t n, const Operand& o, double* out) {
  const float scale = static_cast<float>(o.scale), root = static_cast<float>(o.root), epsilon = static_cast<float>(o.epsilon);
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = scale * m[j] / (std::sqrt(v[j]) * root + epsilon);
}

template <typename T>
void quotient(const T* m, const T* v, int64_t n, const Operand& o, double* out) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = o.scale * number(m[j]) / (number(v[j]) * o.root + o.epsilon);
}

// The operand's elements from `offset` on, `n` of them.
template <typename T>
void derive(const Operand& o, const Address& at, int64_t offset, int64_t n, double* out) {
  const T* a = static_cast<const T*>(at.first) + offset;
  const T* b = static_cast<const T*>(at.second) + offset;
  switch (o.kind) {
    case kTensor: return widen(a, n, out);
    case kDifference: return subtract(a, b, n, out);
    case kAdam: return adam_step(a, b, n, o, out);
    default: return quotient(a, b, n, o, out);
  }
}

inline void derive(const Operand& o, const Address& at, int64_t offset, int64_t n, double* out) {
  switch (o.type) {
    case kFloat: return derive<float>(o, at, offset, n, out);
    case kDouble: return derive<double>(o, at, offset, n, out);
    default: return derive<uint16_t>(o, at, offset, n, out);
  }
}

#endif
