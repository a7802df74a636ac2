// Threads and scratch memory; see runtime.hpp.
#include "runtime.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace chainrule {
namespace {

// AddressSanitizer sees what runs over the end of memory only where no slack follows.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kExact = true;
#else
constexpr bool kExact = false;
#endif

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
  std::mutex error_mutex;
  std::exception_ptr error;

  void work() noexcept {
    inside = true;
    try {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
        task(context, i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      error = std::current_exception();
      next.store(count, std::memory_order_relaxed);
    }
    inside = false;
  }
};

// Threads that wait for a job, spinning for some microseconds before they sleep: the kernels of a
// training step follow each other closely.
class Pool {
 public:
  // False if another thread is using the pool.
  bool run(Job& job, int helpers) {
    std::unique_lock<std::mutex> one_at_a_time(run_mutex_, std::try_to_lock);
    if (!one_at_a_time.owns_lock()) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      grow(helpers);
      job_ = &job;
      wanted_ = helpers;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job.work();
    {
      // Helpers that have not woken by now find nothing to do, and nobody waits for them.
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;
    }
    for (int spin = 0; working_.load(std::memory_order_acquire) != 0; ++spin) pause(spin);
    return true;
  }

 private:
  void grow(int helpers) {
    try {
      while (static_cast<int>(threads_.size()) < helpers) {
        const int index = static_cast<int>(threads_.size());
        threads_.emplace_back([this, index, seen = generation_.load()] { loop(index, seen); });
      }
    } catch (const std::system_error&) {
      // The system gives no more threads; those there are suffice.
    }
  }

  static void pause(int spin) {
    if (spin < kSpins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      std::this_thread::yield();
    }
  }

  void loop(int index, uint64_t seen) {
    for (;;) {
      for (int spin = 0;
           spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin)
        pause(spin);
      Job* job = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        seen = generation_.load();
        if (job_ != nullptr && index < wanted_) {
          job = job_;
          working_.fetch_add(1, std::memory_order_relaxed);
        }
      }
      if (job == nullptr) continue;
      job->work();
      working_.fetch_sub(1, std::memory_order_release);
    }
  }

  static constexpr int kSpins = 2000;
  std::mutex run_mutex_, mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> working_{0};
  Job* job_ = nullptr;  // this and wanted_ under mutex_
  int wanted_ = 0;
};

// Never destroyed, because its threads may outlive static destruction. A forked child has none of
// those threads: it forgets the pool and makes a new one when it first needs it.
std::atomic<Pool*> pool{nullptr};

void forget_pool() { pool.store(nullptr, std::memory_order_release); }
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget_pool);

Pool& the_pool() {
  Pool* found = pool.load(std::memory_order_acquire);
  if (found == nullptr) {
    Pool* fresh = new Pool;
    if (pool.compare_exchange_strong(found, fresh)) return *fresh;
    delete fresh;
  }
  return *found;
}

}  // namespace

void parallel_for(int64_t count, int threads, void (*task)(void*, int64_t), void* context) {
  if (count <= 0) return;
  Job job;
  job.task = task;
  job.context = context;
  job.count = count;
  const int64_t most = threads < count ? threads : count;
  if (most <= 1 || inside || !the_pool().run(job, static_cast<int>(most) - 1)) {
    for (int64_t i = 0; i < count; ++i) task(context, i);
  } else if (job.error) {
    std::rethrow_exception(job.error);
  }
}

void* allocate(size_t size) {
  // A kernel that walks over the planes of an image touches more 4 KB pages than the first-level
  // TLB holds.
  constexpr size_t kHuge = size_t{2} << 20;
  const bool large = size >= kHuge / 4;
  const size_t unit = large ? kHuge : 64;
  const size_t whole = kExact ? size : (size + unit - 1) / unit * unit;
  void* memory = nullptr;
  if (whole < size || posix_memalign(&memory, unit, whole) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(memory, whole, MADV_HUGEPAGE);
#endif
  return memory;
}

void* scratch(int slot, size_t bytes) {
  Arena::Piece& piece = arena.pieces[slot];
  constexpr size_t kBehind = 256;
  if (kExact ? piece.size != bytes + kBehind : piece.size < bytes + kBehind) {
    const size_t size = bytes + kBehind + (kExact ? 0 : bytes / 4 + 4096);
    std::free(piece.memory);
    piece = {};
    piece.memory = allocate(size);
    piece.size = size;
  }
  return piece.memory;
}

}  // namespace chainrule
