//! A template's syntax tree: the nodes of jinja2 that chat templates can use, each name resolved to a slot. `ast/children.rs` walks over the
//! parts of an expression.

mod children;

pub(super) use children::{for_each_child, for_each_child_mut};

/// Where a variable lives: `hops` functions outwards (a macro is a function), slot `index` there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slot {
    pub(super) hops: u16,
    pub(super) index: u16,
}

/// What a variable is when its scope is entered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// A copy of an outer variable.
    Alias(Slot),
    /// A variable of the render call, or a global.
    Resolve(Box<str>),
    /// Not set yet.
    Undefined,
}

/// What is done on entering a scope, by slot of the current function.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Scope(pub(super) Vec<(u16, Load)>);

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Const {
    None,
    Bool(bool),
    Int(i64),
    /// Decimal digits of a whole number beyond 64 bits.
    Big(Box<str>),
    Float(f64),
    Str(Box<str>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// Arguments of a call, a filter or a test.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) keywords: Vec<(Box<str>, Expr)>,
    pub(super) star: Option<Box<Expr>>,
    pub(super) star_star: Option<Box<Expr>>,
}

/// `value | name(args)` or `value is name(args)`. A filter block's filter has no value of its own.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Apply {
    pub(super) node: Option<Expr>,
    pub(super) name: Box<str>,
    pub(super) args: Args,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Call {
    pub(super) callee: Expr,
    pub(super) args: Args,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Expr {
    Const(Const),
    Name {
        name: Box<str>,
        slot: Slot,
    },
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Test, value, value otherwise.
    Cond(Box<(Expr, Expr, Option<Expr>)>),
    Bin(BinOp, Box<(Expr, Expr)>),
    And(Box<(Expr, Expr)>),
    Or(Box<(Expr, Expr)>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    Filter(Box<Apply>),
    Test(Box<Apply>),
    Call(Box<Call>),
    Getattr(Box<Expr>, Box<str>),
    Getitem(Box<(Expr, Expr)>),
    /// Only as the second part of `Getitem`.
    Slice(Box<[Option<Expr>; 3]>),
}

/// What a value is assigned to.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Target {
    Name {
        name: Box<str>,
        slot: Slot,
    },
    Tuple(Vec<Target>),
    /// `name.attribute` of a namespace.
    Attribute {
        name: Box<str>,
        slot: Slot,
        attribute: Box<str>,
    },
}

/// A macro, or the body of a call block.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Function {
    pub(super) name: Box<str>,
    pub(super) parameters: Vec<(Box<str>, Slot)>,
    /// Of the last parameters.
    pub(super) defaults: Vec<Expr>,
    pub(super) body: Vec<Stmt>,
    pub(super) scope: Scope,
    /// Slots that one activation needs.
    pub(super) slots: u16,
    /// The implicit parameters that the body uses.
    pub(super) caller: Option<Slot>,
    pub(super) kwargs: Option<Slot>,
    pub(super) varargs: Option<Slot>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) test: Option<LoopTest>,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
    pub(super) recursive: bool,
    /// Slot of `loop` in the body.
    pub(super) loop_slot: Slot,
    pub(super) scope: Scope,
    pub(super) otherwise_scope: Scope,
    /// Slots of one activation of a recursive loop.
    pub(super) slots: u16,
}

/// `{% for .. if condition %}`
#[derive(Clone, PartialEq, Debug)]
pub(super) struct LoopTest {
    /// The loop's target again, in the test's own scope.
    pub(super) target: Target,
    pub(super) condition: Expr,
    pub(super) scope: Scope,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Piece {
    Text(Box<str>),
    Expr(Expr),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: StmtKind,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum StmtKind {
    Output(Vec<Piece>),
    For(Box<For>),
    /// Conditions with their bodies, and what else.
    If {
        branches: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filter: Option<Expr>,
        body: Vec<Stmt>,
        scope: Scope,
    },
    With {
        assignments: Vec<(Target, Expr)>,
        body: Vec<Stmt>,
        scope: Scope,
    },
    Macro {
        slot: Slot,
        function: Box<Function>,
    },
    CallBlock {
        call: Expr,
        function: Box<Function>,
    },
    /// `{% generation %}`: its body is a function as a call block's is.
    Generation(Box<Function>),
    FilterBlock {
        filter: Expr,
        body: Vec<Stmt>,
        scope: Scope,
    },
    Break,
    Continue,
}
