// Memory that one training step after the other uses again, so that its pages stay mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "runtime.hpp"

namespace chainrule {

// Blocks are lent out and come back when nobody refers to them any more, from any thread. What
// has come back is kept for the next request of about its size. What is kept and lent together
// never exceeds `limit` bytes or, without one, twice the most that was ever lent at a time; the
// block that was not used for longest is freed first.
class Blocks {
 public:
  struct Block {
    void* memory;
    size_t size;
  };

  explicit Blocks(size_t limit) : limit_(limit) {}
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;
  ~Blocks() { clear(); }

  Block take(size_t bytes) {
    const size_t unit = bytes < kLarge ? kPage : kHuge, wanted = (bytes + unit - 1) / unit * unit;
    std::lock_guard<std::mutex> lock(mutex_);
    Block block;
    const auto found = kept_.lower_bound(wanted);
    if (found != kept_.end() && found->first <= wanted + wanted / 8) {
      block = {found->second.memory, found->first};
      kept_bytes_ -= block.size;
      kept_.erase(found);
    } else {
      block = {fresh(wanted), wanted};
    }
    lent_bytes_ += block.size;
    if (lent_bytes_ > peak_bytes_) peak_bytes_ = lent_bytes_;
    shrink();
    return block;
  }

  void give_back(Block block) {
    std::lock_guard<std::mutex> lock(mutex_);
    lent_bytes_ -= block.size;
    kept_bytes_ += block.size;
    kept_.emplace(block.size, Kept{block.memory, ++clock_});
    shrink();
  }

  void clear() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& each : kept_) std::free(each.second.memory);
    kept_.clear();
    kept_bytes_ = 0;
  }

  size_t lent() const { return locked(lent_bytes_); }
  size_t kept() const { return locked(kept_bytes_); }
  size_t peak() const { return locked(peak_bytes_); }

 private:
  struct Kept {
    void* memory;
    uint64_t since;
  };

  size_t locked(const size_t& value) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return value;
  }

  // Huge pages only where rounding up to them wastes little.
  static void* fresh(size_t bytes) {
    if (bytes >= kLarge) return allocate(bytes);
    void* memory = nullptr;
    if (posix_memalign(&memory, kPage, bytes) != 0) throw std::bad_alloc();
    return memory;
  }

  void shrink() {
    const size_t most = limit_ != 0 ? limit_ : 2 * peak_bytes_;
    while (!kept_.empty() && kept_bytes_ + lent_bytes_ > most) {
      auto oldest = kept_.begin();
      for (auto each = kept_.begin(); each != kept_.end(); ++each)
        if (each->second.since < oldest->second.since) oldest = each;
      kept_bytes_ -= oldest->first;
      std::free(oldest->second.memory);
      kept_.erase(oldest);
    }
  }

  static constexpr size_t kPage = 4096, kHuge = size_t{2} << 20, kLarge = 4 * kHuge;
  const size_t limit_;
  mutable std::mutex mutex_;
  std::multimap<size_t, Kept> kept_;  // by size
  size_t lent_bytes_ = 0, kept_bytes_ = 0, peak_bytes_ = 0;
  uint64_t clock_ = 0;
};

// A block on loan: gives it back when destroyed, which may be after its Workspace has gone.
struct Loan {
  std::shared_ptr<Blocks> blocks;
  Blocks::Block block;
  Loan(std::shared_ptr<Blocks> from, size_t bytes)
      : blocks(std::move(from)), block(blocks->take(bytes)) {}
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan() { blocks->give_back(block); }
};

}  // namespace chainrule
