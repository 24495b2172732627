#include "request_counts.h"

#include <algorithm>
#include <utility>

namespace estimator {

void CountedValues::Add(const std::vector<double>& bounds, double value) {
  ++buckets[static_cast<std::size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin())];
  sum += value;
}

void CountedValues::Add(const CountedValues& other) {
  for (std::size_t index = 0; index < buckets.size(); ++index) buckets[index] += other.buckets[index];
  sum += other.sum;
}

RequestCounts::RequestCounts(std::vector<double> times_us, std::vector<double> sizes)
    : time_bounds_us(std::move(times_us)),
      size_bounds(std::move(sizes)),
      latency_us(time_bounds_us.size()),
      run_us(time_bounds_us.size()),
      examples(size_bounds.size()) {}

void RequestCounts::Add(double elapsed_s, double read_s, double run_s, std::int64_t row_count,
                        std::int64_t example_count, double now_s) {
  read_us += read_s * 1e6;
  rows += row_count;
  last_s = now_s;
  latency_us.Add(time_bounds_us, elapsed_s * 1e6);
  run_us.Add(time_bounds_us, run_s * 1e6);
  if (example_count) examples.Add(size_bounds, static_cast<double>(example_count));
}

void RequestCounts::Add(const RequestCounts& other) {
  read_us += other.read_us;
  rows += other.rows;
  last_s = std::max(last_s, other.last_s);
  latency_us.Add(other.latency_us);
  run_us.Add(other.run_us);
  examples.Add(other.examples);
}

}  // namespace estimator
