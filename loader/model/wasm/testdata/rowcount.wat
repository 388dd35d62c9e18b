;; Answers every row with how many rows the call has.
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
  (func (export "quadnine_eval") (param $rows i32) (param $n i32) (param $inputs i32) (param $out i32) (result i32) (local $i i32)
    loop $next
      local.get $out
      local.get $i
      i32.const 3
      i32.shl
      i32.add
      local.get $n
      f64.convert_i32_u
      f64.store
      local.get $i
      i32.const 1
      i32.add
      local.set $i
      local.get $i
      local.get $n
      i32.ne
      br_if $next
    end
    i32.const 0))
