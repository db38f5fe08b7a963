// Verilator's signed arithmetic in terms that a C++ compiler makes one or two instructions of.
//
// Included before each file of a model. A name in parentheses, (VL_EXTENDS_II)(...), is still
// Verilator's own function. Numbers have no bits above their width, as Verilator sees to.

#include "Vtop__pch.h"

#define VL_EXTENDS_II(obits, lbits, lhs) \
    (static_cast<IData>(static_cast<int32_t>(static_cast<IData>(lhs) << (32 - (lbits))) \
                        >> (32 - (lbits))))
#define VL_EXTENDS_QI(obits, lbits, lhs) \
    (static_cast<QData>(static_cast<int64_t>(static_cast<QData>(lhs) << (64 - (lbits))) \
                        >> (64 - (lbits))))
#define VL_EXTENDS_QQ(obits, lbits, lhs) VL_EXTENDS_QI(obits, lbits, lhs)
#define VL_MULS_III(lbits, lhs, rhs) \
    (VL_EXTENDS_II(32, lbits, lhs) * VL_EXTENDS_II(32, lbits, rhs))
