// What the successful requests of one kind took: sums, and histograms of their times and sizes. Knows no Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace estimator {

// Counts of values by bucket: one more than there are bounds, for what exceeds them all. A value equal to a bound is
// below it.
struct CountedValues {
  explicit CountedValues(std::size_t bounds) : buckets(bounds + 1) {}
  void Add(const std::vector<double>& bounds, double value);
  void Add(const CountedValues& other);

  std::vector<std::uint64_t> buckets;
  double sum = 0;
};

struct RequestCounts {
  RequestCounts(std::vector<double> times_us, std::vector<double> sizes);
  // Times are in seconds; now_s is since the epoch.
  void Add(double elapsed_s, double read_s, double run_s, std::int64_t rows, std::int64_t examples, double now_s);
  // Of the same bounds.
  void Add(const RequestCounts& other);

  std::vector<double> time_bounds_us, size_bounds;
  double read_us = 0, last_s = 0;
  std::int64_t rows = 0;
  CountedValues latency_us, run_us, examples;
};

}  // namespace estimator
