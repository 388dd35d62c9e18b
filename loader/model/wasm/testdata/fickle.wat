;; Answers a row of one number with that number, unless it is
;;   1  it never returns
;;   2  it traps
;;   3  it takes all the memory it can get, and traps when there is no more
;;   4  it refuses the row
;;   5  it answers NaN
;;   6  it calls itself without end
(module
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 1024))
  (func (export "quadnine_alloc") (param $bytes i32) (result i32) (local $at i32)
    global.get $heap
    local.set $at
    local.get $at
    local.get $bytes
    i32.add
    global.set $heap
    local.get $at)
  (func $deep (result i32)
    call $deep
    call $deep
    i32.add)
  (func (export "quadnine_eval") (param $rows i32) (param $n i32) (param $inputs i32) (param $out i32) (result i32) (local $v f64)
    local.get $rows
    f64.load
    local.set $v
    local.get $v
    f64.const 1
    f64.eq
    if
      loop $forever
        br $forever
      end
    end
    local.get $v
    f64.const 2
    f64.eq
    if
      unreachable
    end
    local.get $v
    f64.const 3
    f64.eq
    if
      loop $more
        i32.const 16
        memory.grow
        i32.const -1
        i32.ne
        br_if $more
      end
      unreachable
    end
    local.get $v
    f64.const 4
    f64.eq
    if
      i32.const 1
      return
    end
    local.get $v
    f64.const 5
    f64.eq
    if
      f64.const 0
      f64.const 0
      f64.div
      local.set $v
    end
    local.get $v
    f64.const 6
    f64.eq
    if
      call $deep
      return
    end
    local.get $out
    local.get $v
    f64.store
    i32.const 0)
)
