"""Tasks of workers, with their logs; which predictor served when, and why.

Of earlier times no more is known than which predictor serves now: it counts as promoted when it was trained.

Revision: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(length=200)

predictors = sa.table(
    "predictors", sa.column("active", sa.Boolean()), *map(sa.column, ("id", "platform_id", "created_at"))
)
promotions = sa.table(
    "promotions", *map(sa.column, ("platform_id", "predictor_id", "created_at", "created_by", "reason", "remark"))
)


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("platform_id", NAME, nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("worker", NAME, nullable=True),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("steps_done", sa.Integer(), nullable=False),
        sa.Column("steps_total", sa.Integer(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_tasks_platform_id_platforms"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
    )
    op.create_index("ix_tasks_state_kind_id", "tasks", ["state", "kind", "id"])
    op.create_index("ix_tasks_platform_id_kind_id", "tasks", ["platform_id", "kind", "id"])
    op.create_table(
        "task_logs",
        sa.Column("task_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_task_logs_task_id_tasks"),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_task_logs"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", ID, nullable=False),
        sa.Column("platform_id", NAME, nullable=False),
        sa.Column("predictor_id", ID, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["platform_id"], ["platforms.id"], name="fk_promotions_platform_id_platforms"),
        sa.ForeignKeyConstraint(["predictor_id"], ["predictors.id"], name="fk_promotions_predictor_id_predictors"),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )
    op.create_index("ix_promotions_platform_id_id", "promotions", ["platform_id", "id"])
    p = predictors.c
    serving = sa.select(p.platform_id, p.id, p.created_at, sa.literal(""), sa.literal("trained"), sa.literal(""))
    op.get_bind().execute(
        sa.insert(promotions).from_select(
            [column.name for column in promotions.c], serving.where(p.active).order_by(p.id)
        )
    )


def downgrade() -> None:
    op.drop_table("promotions")
    op.drop_table("task_logs")
    op.drop_table("tasks")
