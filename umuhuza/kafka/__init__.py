# SPDX-License-Identifier: Apache-2.0
"""Apache Kafka on this machine: its jars, its certificates, its brokers."""
