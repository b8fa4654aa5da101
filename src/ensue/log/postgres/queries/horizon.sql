select horizon from ensue.head()
