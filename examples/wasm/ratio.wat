;; What the kind ratio computes, as a module: score = scale·(uv/pv) + bias, where
;; uv/pv is 0 for pv = 0. Inputs: uv, pv, in this order. Weights: bias, scale, one
;; F64 each; they are given in the order of their names. docs/wasm.md explains.
(module
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 1024))
  (global $scale (mut f64) (f64.const 1))
  (global $bias (mut f64) (f64.const 0))

  ;; Hands out memory from 1024 on, in multiples of 8; what was handed out stays so.
  (func (export "quadnine_alloc") (param $bytes i32) (result i32) (local $at i32) (local $have i32)
    global.get $heap
    local.set $at
    local.get $at
    local.get $bytes
    i32.add
    i32.const 7
    i32.add
    i32.const -8
    i32.and
    global.set $heap
    memory.size
    i32.const 16
    i32.shl
    local.set $have
    block $fits
      global.get $heap
      local.get $have
      i32.le_u
      br_if $fits
      global.get $heap
      local.get $have
      i32.sub
      i32.const 65535
      i32.add
      i32.const 16
      i32.shr_u
      memory.grow
      i32.const -1
      i32.ne
      br_if $fits
      i32.const 0 ;; no room
      return
    end
    local.get $at)

  ;; Keeps weight 0, bias, or 1, scale. What is no F64 is refused with code 2.
  (func (export "quadnine_tensor") (param $index i32) (param $at i32) (param $bytes i32) (result i32)
    local.get $bytes
    i32.const 8
    i32.ne
    if
      i32.const 2
      return
    end
    local.get $index
    if
      local.get $at
      f64.load
      global.set $scale
    else
      local.get $at
      f64.load
      global.set $bias
    end
    i32.const 0)

  ;; Computes n rows: no row needs another.
  (func (export "quadnine_eval") (param $rows i32) (param $n i32) (param $inputs i32) (param $out i32) (result i32) (local $score f64)
    block $done
      loop $next
        local.get $n
        i32.eqz
        br_if $done
        f64.const 0
        local.set $score
        local.get $rows
        f64.load offset=8
        f64.const 0
        f64.ne
        if
          local.get $rows
          f64.load
          local.get $rows
          f64.load offset=8
          f64.div
          local.set $score
        end
        local.get $out
        global.get $scale
        local.get $score
        f64.mul
        global.get $bias
        f64.add
        f64.store
        local.get $rows
        i32.const 16
        i32.add
        local.set $rows
        local.get $out
        i32.const 8
        i32.add
        local.set $out
        local.get $n
        i32.const 1
        i32.sub
        local.set $n
        br $next
      end
    end
    i32.const 0)
)
