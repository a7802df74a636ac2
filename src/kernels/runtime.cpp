// Threads and scratch memory; see runtime.hpp.
#include "runtime.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace chainrule {
namespace {

struct Arena {
  struct Piece {
    void* memory = nullptr;
    size_t size = 0;
  } pieces[kSlots];
  ~Arena() {
    for (Piece& p : pieces) std::free(p.memory);
  }
};
thread_local Arena arena;
thread_local bool inside = false;  // a task that calls parallel_for runs it alone

struct Job {
  void (*task)(void*, int64_t);
  void* context;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;
  void work() {
    try {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
        task(context, i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      error = std::current_exception();
      next.store(count);
    }
  }
};

// Large pieces on huge pages: a kernel that walks over the planes of an image touches more 4 KB
// pages than the first-level TLB holds.
void* allocate(size_t size) {
  constexpr size_t kHuge = size_t{2} << 20;
  if (size < kHuge / 4) return std::aligned_alloc(64, size);
  void* memory = std::aligned_alloc(kHuge, (size + kHuge - 1) / kHuge * kHuge);
#ifdef MADV_HUGEPAGE
  if (memory != nullptr) madvise(memory, (size + kHuge - 1) / kHuge * kHuge, MADV_HUGEPAGE);
#endif
  return memory;
}

class Pool {
 public:
  void run(Job& job, int helpers) {
    std::lock_guard<std::mutex> one_at_a_time(run_mutex_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(threads_.size()) < helpers)
        threads_.emplace_back([this, i = static_cast<int>(threads_.size())] { loop(i); });
      job_ = &job;
      wanted_ = helpers;
      running_.store(helpers, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    inside = true;
    job.work();
    inside = false;
    for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin) pause(spin);
  }

 private:
  static void pause(int spin) {
    if (spin < kSpin) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      std::this_thread::yield();
    }
  }

  void loop(int index) {
    inside = true;
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpin && generation_.load(std::memory_order_acquire) == seen;
           ++spin)
        pause(spin);
      Job* job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        seen = generation_.load();
        job = index < wanted_ ? job_ : nullptr;
      }
      if (job == nullptr) continue;
      job->work();
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  static constexpr int kSpin = 2000;
  std::mutex run_mutex_, mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> running_{0};
  Job* job_ = nullptr;
  int wanted_ = 0;
};

// Never destroyed: its threads may outlive static destruction, and a forked child, which has
// none of them, simply makes a new one.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  Pool* found = pool.load(std::memory_order_acquire);
  if (found == nullptr) {
    Pool* fresh = new Pool;
    if (pool.compare_exchange_strong(found, fresh)) {
#if defined(__unix__) || defined(__APPLE__)
      static std::once_flag once;
      std::call_once(once, [] {
        pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr, std::memory_order_release); });
      });
#endif
      return *fresh;
    }
    delete fresh;
  }
  return *found;
}

}  // namespace

void parallel_for(int64_t count, int threads, void (*task)(void*, int64_t), void* context) {
  if (count <= 0) return;
  const int64_t most = threads < count ? threads : count;
  if (most <= 1 || inside) {
    for (int64_t i = 0; i < count; ++i) task(context, i);
    return;
  }
  Job job;
  job.task = task, job.context = context, job.count = count;
  the_pool().run(job, static_cast<int>(most) - 1);
  if (job.error) std::rethrow_exception(job.error);
}

void* scratch(int slot, size_t bytes) {
  Arena::Piece& piece = arena.pieces[slot];
  if (piece.size < bytes + 256) {
    const size_t size = (bytes + bytes / 4 + 4096 + 63) / 64 * 64;
    std::free(piece.memory);
    piece.memory = allocate(size);
    piece.size = piece.memory ? size : 0;
    if (piece.memory == nullptr) throw std::bad_alloc();
  }
  return piece.memory;
}

}  // namespace chainrule
